"""A run as figures see it, and what to say where it lacks a metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mmhealth.health import Alert
from mmhealth.health.heldout import HeldOutCourse


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as figures see it."""

    name: str
    timeline: pl.DataFrame
    """See `mmhealth.health.timeline.SCHEMA`."""
    alerts: Sequence[Alert] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why metrics are null."""
    number: int = 0
    """Which colour the run has in every figure."""
    held_out: HeldOutCourse | None = None
    """None: not read yet."""
    sources: pl.DataFrame | None = None
    """See `mmhealth.health.Timeline.sources`; None: not read yet."""


def why_empty(runs: Sequence[RunView], metric: str) -> str | None:
    """Why no run has this metric; None when one has."""
    reasons = partly_empty(runs, metric)
    if len(reasons) < len(runs):
        return None
    if not runs:
        return "no run is chosen"
    if all(run.timeline.is_empty() for run in runs):
        return "no step is complete yet"
    whys = dict.fromkeys(run.reasons.get(metric, f"{metric} is null in every step") for run in runs)
    return f"insufficient data: {'; '.join(whys)}"


def partly_empty(runs: Sequence[RunView], metric: str) -> list[str]:
    """For each run that has no value of this metric, why."""
    return [
        f"{run.name}: insufficient data: {run.reasons.get(metric, 'no step is complete yet')}"
        for run in runs
        if run.timeline.is_empty() or run.timeline[metric].null_count() == len(run.timeline)
    ]
