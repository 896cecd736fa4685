"""How far a run's metrics are from the thresholds of their rules, and which is the worst."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmhealth.estimators import trend_slope
from mmhealth.figures.decimation import decimate
from mmhealth.health import Monitor, Rule
from mmhealth.health.alerts import SEVERITIES, Severity
from mmhealth.health.forecast import WINDOW
from mmhealth.health.judgement import PATIENCE, Judgement
from mmhealth.health.verdict import ON_THE_DATA

Trend = Literal["worsening", "improving", "steady", "unknown"]
"""Of a metric, seen from its rule's bad side; ``unknown``: too few values."""

COURSE = 48
"""Most values of a course."""


@dataclass(frozen=True, slots=True)
class WorstMetric:
    """The rule that is nearest to its threshold, or furthest beyond it."""

    rule: str
    metric: str
    severity: Severity
    firing: bool
    step: int
    """Step at which the rule last had data."""
    value: float
    """What was held against the threshold there: for some rules the mean of several steps."""
    threshold: float
    headroom: float
    """By how many times the value would have to shrink (or grow, where high is bad) to be at the
    threshold; below 1 it is beyond."""
    trend: Trend
    slope: float | None
    """Change of the metric a step over the last values; 0: no significant trend."""
    course: tuple[float | None, ...]
    """The metric over the run, thinned out so that no spike disappears; None: not known there."""


def worst_metric(monitor: Monitor) -> WorstMetric | None:
    """The worst metric of what a monitor has read; None where no rule has had data lately.

    Rules that fire come first, the gravest of them first, then the least headroom. A rule that is
    beyond its threshold and excused for it does not count, nor do rules on the data themselves
    (`ON_THE_DATA`) that are not breached.
    """
    frame = monitor.timeline.frame
    if frame.is_empty():
        return None
    last, states = int(frame["step"][-1]), monitor.rule_engine.states()
    ranked = []
    for name, (step, judgement) in monitor.rule_engine.latest().items():
        rule, firing = monitor.policy.rule(name), states[name] == "firing"
        room = headroom(rule, judgement)
        if room is None or not (firing or (last - step <= PATIENCE and _counts(rule, judgement))):
            continue
        gravity = SEVERITIES.index(rule.severity) if firing else 0
        ranked.append(((not firing, -gravity, room), (rule, step, judgement, room)))
    if not ranked:
        return None
    (quiet, _, _), (rule, step, judgement, room) = min(ranked, key=lambda item: item[0])
    assert judgement.value is not None
    assert judgement.threshold is not None
    values = frame[rule.metric].to_list()
    slope = _slope(frame["step"].to_list(), values)
    return WorstMetric(
        rule=rule.name,
        metric=rule.metric,
        severity=rule.severity,
        firing=not quiet,
        step=step,
        value=judgement.value,
        threshold=judgement.threshold,
        headroom=room,
        trend=_trend(rule, slope),
        slope=slope,
        course=_thinned(values),
    )


def headroom(rule: Rule, judgement: Judgement) -> float | None:
    """See `WorstMetric.headroom`; None where no value was compared, or one is not a number.

    Where a ratio means nothing, as the value or the threshold is not positive, it is 0 beyond the
    threshold and infinite elsewhere.
    """
    value, threshold = judgement.value, judgement.threshold
    if value is None or threshold is None or math.isnan(value) or math.isnan(threshold):
        return None
    if value > 0.0 and threshold > 0.0 and math.isfinite(value) and math.isfinite(threshold):
        low_is_bad = rule.is_worse(value, value + 1.0)
        return value / threshold if low_is_bad else threshold / value
    return 0.0 if rule.is_worse(value, threshold) else math.inf


def _counts(rule: Rule, judgement: Judgement) -> bool:
    if rule.metric in ON_THE_DATA:
        return judgement.reading == "breached"
    assert judgement.value is not None
    assert judgement.threshold is not None
    excused = judgement.reading in ("solved", "recovered")
    return not (excused and rule.is_worse(judgement.value, judgement.threshold))


def _slope(steps: Sequence[int], values: Sequence[float | None]) -> float | None:
    known = [
        (step, value)
        for step, value in zip(steps, values, strict=True)
        if value is not None and math.isfinite(value)
    ][-WINDOW:]
    return trend_slope(*zip(*known, strict=True)) if known else None


def _trend(rule: Rule, slope: float | None) -> Trend:
    if slope is None:
        return "unknown"
    if slope == 0.0:
        return "steady"
    return "worsening" if rule.is_worse(slope, 0.0) else "improving"


def _thinned(values: Sequence[float | None]) -> tuple[float | None, ...]:
    kept = decimate(np.array(values, np.float64), COURSE).tolist()
    shown = (values[index] for index in kept)
    return tuple(v if v is not None and math.isfinite(v) else None for v in shown)
