"""Whether, and when, a metric on its way will cross the threshold of a rule that does not fire."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmhealth.estimators import Crossing, forecast_crossing
from mmhealth.health.alerts import Severity
from mmhealth.health.judgement import PATIENCE
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.monitor import Monitor
from mmhealth.health.rules import Rule
from mmhealth.health.solved import is_failing, is_solved
from mmhealth.health.timeline import SCHEMA

WINDOW = 40
"""Last values that a trend is read from, and how many steps ahead it is followed."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the trend of a rule's metric will cross the rule's threshold, if it goes on like this.

    Of the trend, not of single values: noise takes some of those across earlier.
    """

    rule: str
    metric: str
    """What crosses; the ``_unsolved`` variant where the rule excuses solved groups."""
    severity: Severity
    threshold: float
    step: int
    """Step of the last value."""
    values: int
    """Values that the trend was read from, the last ones."""
    slope: float
    """Change a step."""
    steps: int
    """Steps from the last value to the crossing."""
    low: int
    """Lower end of the 90 % interval, at least 0."""
    high: int

    @property
    def message(self) -> str:
        """The forecast in one sentence."""
        moves, side = ("falls", "below") if self.slope < 0 else ("rises", "above")
        return (
            f"{self.rule}: {self.metric} {moves} by {abs(self.slope):.2g} a step; at this rate "
            f"{side} {self.threshold:.3g} in {self.steps} step{'' if self.steps == 1 else 's'}, at "
            f"step {self.step + self.steps} (90 % interval: {self.low} to {self.high} steps; from "
            f"{self.values} values)."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see docs/audit-json.md."""
        return asdict(self) | {"message": self.message}


def forecast_run(monitor: Monitor) -> tuple[Forecast, ...]:
    """Forecasts for the rules of a monitor's policy, in their order, on what it has read so far.

    For each rule with a fixed threshold that is not firing, where a significant trend leads across
    it within `WINDOW` steps; there is none for the others.
    """
    history = [metrics for _, metrics in monitor.timeline.visible()]
    states = monitor.rule_engine.states()
    quiet = [rule for rule in monitor.policy.rules if states[rule.name] != "firing"]
    found = (_forecast(rule, history) for rule in quiet if rule.has_fixed_level and history)
    return tuple(forecast for forecast in found if forecast is not None)


def _forecast(rule: Rule, history: Sequence[StepMetrics]) -> Forecast | None:
    threshold, metric = rule.threshold(history), _course(rule, history)
    known = [
        (int(step.values["step"]), float(value))
        for step in history[-2 * WINDOW :]
        if rule.has_rows(step) and (value := step.values.get(metric)) is not None
        if math.isfinite(value)
    ][-WINDOW:]
    last = int(history[-1].values["step"])
    if threshold is None or not known or known[-1][0] < last - PATIENCE:
        return None
    if rule.excuse_solved and is_solved(history[-1].values):
        return None
    if rule.while_failing and not is_failing(history[-1].values):
        return None
    steps, values = zip(*known, strict=True)
    falling = rule.is_worse(threshold - 1.0, threshold)
    crossing = forecast_crossing(steps, values, threshold, falling=falling, horizon=WINDOW)
    if not isinstance(crossing, Crossing):
        return None
    return Forecast(
        rule=rule.name,
        metric=metric,
        severity=rule.severity,
        threshold=threshold,
        step=steps[-1],
        values=crossing.values,
        slope=crossing.slope,
        steps=math.ceil(crossing.steps),
        low=math.floor(crossing.low),
        high=math.ceil(crossing.high),
    )


def _course(rule: Rule, history: Sequence[StepMetrics]) -> str:
    """The column that has to cross for the rule to be breached."""
    unsolved = f"{rule.metric}_unsolved"
    if not rule.excuse_solved or unsolved not in SCHEMA:
        return rule.metric
    recent = history[-PATIENCE - 1 :]
    known = any(step.values.get(unsolved) is not None for step in recent)
    return unsolved if known else rule.metric
