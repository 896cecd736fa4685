"""The commands ``mmhealth policy``."""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import write

policy_app = typer.Typer(no_args_is_help=True, help="Show or check a policy: rules in TOML.")


@policy_app.command("show")
def policy_show() -> None:
    """Print the default policy: copy it, change it, pass it with --policy."""
    from mmhealth.health.policy import default_policy_text

    write(Path("-"), default_policy_text(), "")


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Policy (TOML).")],
) -> None:
    """Check a policy; a mistake is named with its line (exit code 2)."""
    from mmhealth.health import load_policy

    policy = load_policy(file)
    names = ", ".join(rule.name for rule in policy.rules)
    typer.echo(f"{file}: valid; fails on {policy.fail_on}; {len(policy.rules)} rules: {names}")
