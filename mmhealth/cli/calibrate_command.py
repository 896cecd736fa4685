"""The command ``mmhealth calibrate``."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import (
    EngineName,
    PolicyPath,
    RunPaths,
    chosen_engine,
    file_at,
    usage_error,
    write,
)


def calibrate(
    runs: RunPaths,
    *,
    target: Annotated[
        str,
        typer.Option("--target-false-alarms", metavar="K/N", help="False alarms a healthy step."),
    ] = "1/1000",
    solved_at: Annotated[
        float,
        typer.Option(min=0, max=1, help="Held-out success from which on a stall is no harm."),
    ] = 0.9,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=file_at, metavar="F", help="Write the policy there."),
    ] = None,
    policy: PolicyPath = None,
    engine: EngineName = "serial",
) -> None:
    """Measure how early rules tell and how often they cry wolf; move their thresholds to a target.

    Harm (a stall, a regression) is read off held-out success alone.
    """
    from rich.console import Console

    from mmhealth.health import load_policy
    from mmhealth.health.calibration import calibrate, calibrated_toml, read_courses
    from mmhealth.report.calibration import print_calibration
    from mmhealth.report.progress import counting

    rate = _rate(target)
    base = load_policy(policy)
    with chosen_engine(engine) as workers, counting("reading") as told:
        courses = read_courses(
            runs,
            solved_at=solved_at,
            demanded=base.demanded,
            engine=workers,
            told=lambda done: told(done, len(runs)),
        )
    found = calibrate(courses, base, rate)
    print_calibration(found, Console())
    if out is not None:
        found = replace(found, policy=replace(found.policy, source=str(out)))
        write(out, calibrated_toml(found), "--out")
        typer.echo(f"{out}: written")


def _rate(text: str) -> float:
    """``1/1000``, ``0.001``: false alarms a step."""
    try:
        rate = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        rate = 0.0
    if not 0 < rate < 1:
        raise usage_error(
            f"--target-false-alarms: {text!r} is no rate between 0 and 1, such as 1/1000"
        )
    return rate
