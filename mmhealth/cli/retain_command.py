"""The command ``mmhealth retain``."""

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mmhealth.cli.options import PolicyPath, RunDir, usage_error
from mmhealth.errors import RetentionBusyError, RetentionError, RunUnavailableError

_SIDECAR: dict[str, Any] = {"least_steps": 32, "least_share": 0.5}
"""Steps that a sidecar waits for before it writes a file, and share of a segment's rows that must
go before it writes that anew."""


def retain(
    run: RunDir,
    *,
    keep_steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="The last N steps keep their rows.")
    ],
    keep_days: Annotated[
        float | None,
        typer.Option(min=0, metavar="D", help="So do steps committed in the last D days."),
    ] = None,
    policy: PolicyPath = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be reduced.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="SECONDS", help="Go on, this often, until the run is closed, or Ctrl-C."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False,
) -> None:
    """Reduce old steps to their metrics and quantile sketches; their rows are removed for good.

    Safe while a run is written and read. Commits, evaluations, events and late values stay.
    """
    from mmhealth.health import load_policy
    from mmhealth.retention import Keep, reduce_run
    from mmhealth.runlog import open_run

    if dry_run and every is not None:
        raise usage_error("--dry-run says what would be done once: leave out --every")
    keep, rules = Keep(keep_steps, keep_days), load_policy(policy)
    opened, said = open_run(run), ""
    while True:
        try:
            opened.refresh()
            closed = every is None or opened.closed
            # Once the run is closed nothing more comes: what waited for more goes, too.
            waits = {} if closed else _SIDECAR
            done = reduce_run(opened, keep, rules, dry_run=dry_run, **waits)
        except RetentionBusyError:
            if every is None:
                raise
        except (RunUnavailableError, OSError) as error:
            why = f"{run}: not everything could be reduced: {error}. Nothing is lost"
            if every is None:
                raise RetentionError(f"{why}: run the command again") from error
            if why != said:
                typer.echo(f"{why}: the next round tries again", err=True)
            said = why
        else:
            said = ""
            if as_json:
                typer.echo(json.dumps(asdict(done)))
            elif every is None or done.steps or done.bytes_freed:
                typer.echo(f"{run}: {done.describe(dry_run=dry_run)}")
            if every is None or closed:
                return
        time.sleep(every)
