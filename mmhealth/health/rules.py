"""Rules: a condition on a metric, with persistence and recovery, clocked in steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from mmhealth.health.alerts import Severity
from mmhealth.health.metrics import StepMetrics

SOLVED_SUCCESS_RATE = 0.9
"""Share of successes in a step from which on a low ESS is read as solved, whatever the groups say.

With binary outcomes the signal ESS is about 4p(1-p): below 0.36 from a success rate p of 0.9 on,
however healthy the estimator is.
"""

Reading = Literal["breached", "solved", "between", "recovered", "no data"]
"""``between``: neither beyond the threshold nor beyond the recovery threshold."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a condition says of one step."""

    reading: Reading
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy; has one of ``below``, ``above``, ``below_baseline``, ``falls_by``."""

    name: str
    metric: str
    """Column of the timeline; for an ESS this names the basis, which never changes in a run."""
    below: float | None = None
    """Breached when the metric is below this."""
    above: float | str | None = None
    """Breached when the metric is above this number, or above this column of the timeline."""
    below_baseline: float | None = None
    """Breached when the metric is below this fraction of its mean over the baseline steps."""
    falls_by: float | None = None
    """Breached when the mean over ``window`` steps has fallen by this fraction against the window
    before, while ``while_rising`` has risen."""
    while_rising: str | None = None
    """Column that must have risen; with ``falls_by``."""
    window: int = 10
    """Steps of each of the two windows; with ``falls_by``."""
    baseline_steps: int = 10
    """First steps that make the baseline; with ``below_baseline``."""
    recover: float | None = None
    """The alert resolves beyond this value, on the threshold's scale (default: the threshold)."""
    for_steps: int = 1
    """Judged steps in a row that must be breached before the rule fires."""
    recover_steps: int = 1
    """Judged steps in a row that must be recovered before it resolves."""
    severity: Severity = "warning"
    min_rows: int = 1
    """With fewer rows behind the metric a step is no data for this rule."""
    excuse_solved: bool = False
    """A breach is read as "solved" when it vanishes as solved groups are left out, or when the
    success rate of the step is at least `SOLVED_SUCCESS_RATE` (0.9)."""
    meaning: str = ""
    """What it means when it fires, in a sentence."""
    failure_mode: str = ""
    fix: str = ""
    """What to do about it."""

    def judge(self, history: Sequence[StepMetrics]) -> Judgement:
        """Judge the last step of the history (in order of steps)."""
        if history[-1].rows_behind(self.metric) < self.min_rows and self.metric != "data_gap":
            return Judgement("no data")
        if self.falls_by is not None:
            return self._judge_fall(history)
        row = history[-1].values
        value = row.get(self.metric)
        if value is None:
            solved = self.excuse_solved and row.get("solved_group_share") == 1.0
            return Judgement("solved") if solved else Judgement("no data")
        threshold = self._threshold(history)
        if threshold is None:
            return Judgement("no data")
        sign = 1 if self.above is None else -1
        if sign * value < sign * threshold:
            excused = self.excuse_solved and self._is_excused(row, sign, threshold)
            return Judgement("solved" if excused else "breached", value, threshold)
        recover = threshold if self.recover is None else self._scale(history, self.recover)
        recovered = recover is None or sign * value >= sign * recover
        return Judgement("recovered" if recovered else "between", value, threshold)

    def is_worse(self, value: float, than: float) -> bool:
        """Whether ``value`` lies further on the bad side."""
        return value > than if self.above is not None else value < than

    def _is_excused(self, row: dict[str, Any], sign: int, threshold: float) -> bool:
        if row.get("solved_group_share") == 1.0:
            return True
        if (row.get("success_rate") or 0.0) >= SOLVED_SUCCESS_RATE:
            return True
        unsolved = row.get(f"{self.metric}_unsolved")
        return unsolved is not None and sign * unsolved >= sign * threshold

    def _threshold(self, history: Sequence[StepMetrics]) -> float | None:
        if isinstance(self.above, str):
            limit = history[-1].values.get(self.above)
            return None if limit is None else float(limit)
        given = self.below if self.below is not None else self.above
        return self._scale(history, given if given is not None else self.below_baseline)

    def _scale(self, history: Sequence[StepMetrics], value: float | None) -> float | None:
        if self.below_baseline is None or value is None:
            return value
        values = (step.values.get(self.metric) for step in history)
        known = (value for value in values if value is not None)
        first = list(islice(known, self.baseline_steps + 1))
        if len(first) <= self.baseline_steps:
            return None
        return float(value * sum(first[: self.baseline_steps]) / self.baseline_steps)

    def _judge_fall(self, history: Sequence[StepMetrics]) -> Judgement:
        assert self.falls_by is not None
        if len(history) < 2 * self.window:
            return Judgement("no data")
        rising = self.while_rising or "reward"
        before, after = history[-2 * self.window : -self.window], history[-self.window :]
        means = [_mean(rows, name) for name in (self.metric, rising) for rows in (before, after)]
        if any(mean is None for mean in means):
            return Judgement("no data")
        old, new, rising_old, rising_new = (mean for mean in means if mean is not None)
        threshold = old * (1 - self.falls_by)
        if new < threshold and rising_new > rising_old:
            excused = self.excuse_solved and self._is_excused(history[-1].values, 1, threshold)
            return Judgement("solved" if excused else "breached", new, threshold)
        return Judgement("recovered", new, threshold)


def _mean(steps: Sequence[StepMetrics], column: str) -> float | None:
    values = [step.values.get(column) for step in steps]
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
