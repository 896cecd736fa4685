"""The command ``mmhealth guard``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import PolicyPath, usage_error
from mmhealth.errors import GuardError, PolicyError, RunError


def guard(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The job, and its arguments.")
    ],
    *,
    run_dir: Annotated[Path, typer.Option(help="Run directory that the job records to.")],
    policy: PolicyPath = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds between SIGTERM and SIGKILL.")
    ] = 30.0,
    poll: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two looks at the run.")
    ] = 1.0,
    report: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Report of a stopped job; default: beside RUN-DIR."),
    ] = None,
    notify: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Where to tell alerts (TOML).")
    ] = None,
) -> None:
    """Run a training job; stop it when its run breaches the policy (docs/guard.md).

    Exit code: that of the job, 86 if it was stopped, 87 if another is at work on the run.
    """
    if os.name != "posix":
        raise usage_error("guard needs a POSIX system: signals and sessions of processes")
    from mmhealth.guard import REFUSED, GuardConfig, run_guarded
    from mmhealth.guard.guarded import say_on_stderr
    from mmhealth.health import load_policy
    from mmhealth.integrations.notify import Notifier, load_targets
    from mmhealth.runlog import open_run

    if report is not None:
        _check_report(report, run_dir)
    rules = load_policy(policy)
    if rules.reference is not None:
        try:
            open_run(rules.reference)
        except RunError as error:
            raise PolicyError(f"{policy}: reference: {error}") from None
    config = GuardConfig(
        command=command,
        run_dir=run_dir,
        policy=rules,
        grace=grace,
        poll=poll,
        report=report,
        notifier=Notifier(load_targets(notify), run=str(run_dir)) if notify else None,
    )
    try:
        code = run_guarded(config)
    except GuardError as error:
        say_on_stderr(f"the job is not started: {error}")
        code = REFUSED
    raise typer.Exit(code)


def _check_report(report: Path, run_dir: Path) -> None:
    """A mistake must show now, not when there is something to report."""
    if report.resolve().is_relative_to(run_dir.resolve()):
        raise usage_error(f"--report: {report} is in the run directory, which is the recorder's")
    if report.is_dir():
        raise usage_error(f"--report: {report} is a directory: name a file")
    if not report.parent.is_dir():
        raise usage_error(f"--report: {report.parent} is not a directory")
