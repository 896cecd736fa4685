"""The command ``mmhealth gate``."""

import math
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import (
    BaselineRun,
    GateFormat,
    LastSteps,
    PolicyPath,
    RunPaths,
    usage_error,
    write,
)


def gate(
    runs: RunPaths,
    *,
    policy: PolicyPath = None,
    format: Annotated[
        GateFormat, typer.Option("--format", help="What to print.")
    ] = GateFormat.TEXT,
    baseline: BaselineRun = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="With --baseline: how much worse a run may be.")
    ] = 0.1,
    last: LastSteps = 10,
) -> None:
    """Pass or fail runs, for CI: exit code 0 pass, 1 breach, 2 usage, 3 unreadable or no data."""
    from mmhealth import report
    from mmhealth.health import load_policy
    from mmhealth.report.progress import track

    if not math.isfinite(tolerance):
        raise usage_error(f"--tolerance: {tolerance} is no number a run can be held to")
    against = None if baseline is None else report.Against(baseline, tolerance, last)
    decision = report.gate_runs(track(runs, "reading"), load_policy(policy), against)
    renderers = {
        GateFormat.TEXT: report.render_text,
        GateFormat.JSON: lambda gate: report.dump_json(report.gate_as_dict(gate)),
        GateFormat.JUNIT: report.render_junit,
        GateFormat.GITHUB: report.render_github,
        GateFormat.SARIF: report.render_sarif,
    }
    write(Path("-"), renderers[format](decision), "")
    if format is GateFormat.GITHUB:
        try:
            report.append_summary(decision)
        except OSError as error:
            typer.echo(f"mmhealth: the job summary is not written: {error}", err=True)
    raise typer.Exit(decision.exit_code)
