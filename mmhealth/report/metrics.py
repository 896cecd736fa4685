"""What became of each metric over a run."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from mmhealth.health import Policy, Timeline
from mmhealth.health.timeline import METRICS

SUMMARISED = (*METRICS, "nonfinite", "data_gap")
"""Metrics of the timeline that an audit sums up."""

_OUTCOMES = ("reward", "success_rate")


@dataclass(frozen=True, slots=True)
class Point:
    """A value and the step at which it stood."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric over a run. The points are None when it was never known."""

    name: str
    steps: int
    """Steps of the run."""
    known: int
    """Steps at which the metric is known."""
    first: Point | None
    last: Point | None
    """Where it was last known."""
    minimum: Point | None
    maximum: Point | None
    reason: str | None
    """Why it is unknown at the last step at which it is; None when it is always known."""


def summarise_metrics(timeline: Timeline) -> tuple[MetricSummary, ...]:
    """Every metric of `SUMMARISED` over the visible steps of a run."""
    frame = timeline.frame
    return tuple(_summarise(name, frame, timeline) for name in SUMMARISED)


def judged_metrics(policy: Policy, known: Iterable[str]) -> list[str]:
    """Those of ``known`` that say most: what the policy's rules read, then reward and success."""
    wanted = [rule.metric for rule in policy.rules] + list(_OUTCOMES)
    present = set(known)
    return [name for name in dict.fromkeys(wanted) if name in present]


def _summarise(name: str, frame: pl.DataFrame, timeline: Timeline) -> MetricSummary:
    steps, values = frame["step"].to_list(), frame[name].to_list()
    points = [Point(s, float(v)) for s, v in zip(steps, values, strict=True) if v is not None]
    unknown = [step for step, value in zip(steps, values, strict=True) if value is None]
    reason = None
    if unknown:
        reason = timeline.reason(unknown[-1], name) or "not known"
    return MetricSummary(
        name=name,
        steps=len(steps),
        known=len(points),
        first=points[0] if points else None,
        last=points[-1] if points else None,
        minimum=min(points, key=lambda point: point.value, default=None),
        maximum=max(points, key=lambda point: point.value, default=None),
        reason=reason,
    )
