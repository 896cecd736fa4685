"""The commands ``mmhealth notify``."""

from pathlib import Path
from typing import Annotated

import typer

notify_app = typer.Typer(no_args_is_help=True, help="Where alerts are told: webhook, Slack, ...")


@notify_app.callback()
def _root() -> None:
    pass


@notify_app.command("test")
def notify_test(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Targets (TOML).")],
) -> None:
    """Send a test message to every target; exit code 1 if one does not arrive (docs/guard.md)."""
    from mmhealth.integrations.notify import load_targets, send_test

    counts = send_test(load_targets(config))
    for target in counts:
        arrived = "arrived" if target.delivered else f"did not arrive: {target.last_error}"
        typer.echo(f"{target.target}: {arrived}")
    raise typer.Exit(0 if all(target.delivered for target in counts) else 1)
