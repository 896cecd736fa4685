"""Rules: a condition on a metric, with persistence and recovery, clocked in steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeGuard

from mmhealth.health.alerts import Severity
from mmhealth.health.demand import borne_out, interval_of_mean
from mmhealth.health.drift import Drift
from mmhealth.health.judgement import Judgement, Reading
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.solved import is_failing, is_solved
from mmhealth.health.step_intervals import INTERVAL_METRICS, Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy; has one condition, of ``below`` to ``drifts_above``."""

    name: str
    metric: str
    """Column of the timeline; for an ESS this names the basis, which never changes in a run."""
    below: float | None = None
    """Breached when the metric is below this."""
    above: float | str | None = None
    """Breached when the metric is above this number, or above this column of the timeline."""
    below_baseline: float | None = None
    """Breached when the metric is below this fraction of its baseline."""
    falls_by: float | None = None
    """Breached when the mean over ``window`` steps has fallen by this fraction against the window
    before, while ``while_rising`` has risen."""
    drifts_below: float | None = None
    """Breached when there is evidence that the metric's mean is below this fraction of its
    baseline (`mmhealth.estimators.EDetector`), until the mean over ``window`` steps is back."""
    drifts_above: float | None = None
    """The same for a mean above this multiple of the baseline."""
    false_alarms_per_1000: float = 1.0
    """At most so many alerts are expected in 1000 judged steps in which the mean did not drift so
    far; with ``drifts_below`` and ``drifts_above``."""
    mean_of: int = 1
    """Judged is the mean over this many last steps that have data; with a fixed ``below`` or
    ``above`` and with ``below_baseline``."""
    while_rising: str | None = None
    """Column that must have risen; with ``falls_by``."""
    window: int = 10
    """Steps with data of each of the two windows of ``falls_by``; of the mean that ends a drift."""
    baseline: Literal["first", "reference"] = "first"
    """``first``: the mean of the metric over the run's first ``baseline_steps``; ``reference``:
    what the reference run of the policy had at the same steps."""
    baseline_steps: int = 10
    recover: float | None = None
    """The alert resolves beyond this value, on the threshold's scale (default: the threshold)."""
    for_steps: int = 1
    """Judged steps in a row that must be breached before the rule fires."""
    recover_steps: int = 1
    """Judged steps in a row that must be recovered before it resolves."""
    severity: Severity = "warning"
    min_rows: int = 1
    """With fewer rows behind the metric a step is no data for this rule."""
    demand_interval: float | None = None
    """Level of the population's interval, such as 0.9, that has to lie wholly beyond the threshold
    for a breach, and wholly on the good side of the recovery threshold for a recovery; with a fixed
    ``below`` or ``above`` and with ``below_baseline``."""
    excuse_solved: bool = False
    """A breach is read as "solved" when it vanishes as solved groups are left out, or when the
    success rate of the step is at least `SOLVED_SUCCESS_RATE` (0.9)."""
    while_failing: bool = False
    """Breached only where more than half of the groups fail in all trajectories; beyond the
    threshold elsewhere is "recovered". With ``below``, ``above`` and ``below_baseline``."""
    meaning: str = ""
    """What it means when it fires, in a sentence."""
    failure_mode: str = ""
    fix: str = ""
    """What to do about it."""

    def judge(self, history: Sequence[StepMetrics]) -> Judgement:
        """Judge the last step of the history (in order of steps)."""
        if self.drift_fraction is not None:
            drift, judgement = None, Judgement("no data")
            for step in history:
                drift, judgement = self.follow(drift, step)
            return judgement
        if not self.has_rows(history[-1]):
            return Judgement("no data")
        if self.falls_by is not None:
            return self._judge_fall(history)
        if history[-1].values.get(self.metric) is None:
            return self._judge_unknown(history[-1])
        return self._judge_level(history)

    def _judge_level(self, history: Sequence[StepMetrics]) -> Judgement:
        steps = self._judged(history)
        value, threshold = _mean(steps, self.metric), self.threshold(history)
        if value is None or threshold is None or len(steps) < self.mean_of:
            return Judgement("no data")
        if self.while_failing and steps[0].values.get("failed_group_share") is None:
            return Judgement("no data")
        if self.while_failing and not is_failing(steps[0].values):
            return Judgement("recovered", value, threshold)
        recover = threshold if self.recover is None else self._scale(history, self.recover)
        assert recover is not None
        reading: Reading = "between" if self.is_worse(value, recover) else "recovered"
        if self.is_worse(value, threshold):
            reading = "solved" if self._is_excused(steps, threshold) else "breached"
        judgement = Judgement(reading, value, threshold)
        level, solved = self.demand_interval, self.excuse_solved and is_solved(steps[0].values)
        if level is None or reading == "solved" or solved:
            return judgement
        metrics = (name for name in self._judged_metrics if _mean(steps, name) is not None)
        found = {name: interval_of_mean(steps, name, level) for name in metrics}
        return borne_out(judgement, found, recover, self.is_worse)

    def follow(self, drift: Drift | None, step: StepMetrics) -> tuple[Drift, Judgement]:
        """Judge one more step by what is remembered of those before it; None at the first.

        For a drift rule: `judge` of a history is the last judgement when all its steps are
        followed, and ``drift`` spares going through them again.
        """
        fraction = self.drift_fraction
        assert fraction is not None
        drift = drift or Drift(
            fraction=fraction,
            recover=fraction if self.recover is None else self.recover,
            alpha=self.false_alarms_per_1000 / 1000,
            window=self.window,
            baseline_steps=self.baseline_steps,
        )
        value = step.values.get(self.metric)
        if not self.has_rows(step) or not math.isfinite(value or 0.0):
            return drift, Judgement("no data")
        if value is None:
            judgement = self._judge_unknown(step)
            return drift.excused() if judgement.reading == "solved" else drift, judgement
        reference = step.reference.get(self.metric) if self.baseline == "reference" else None
        if self.baseline == "reference" and not 0.0 < (reference or 0.0) < math.inf:
            return drift, Judgement("no data")
        limit = drift.limit_at(reference)
        if limit is not None and self.is_worse(value, limit) and self._is_excused([step], limit):
            return drift.excused(), Judgement("solved", value, limit)
        drift = drift.after(value, reference)
        if drift.mean is None:
            return drift, Judgement("no data")
        reading: Reading = "breached" if drift.drifted else "recovered"
        return drift, Judgement(reading, drift.mean, drift.limit)

    @property
    def drift_fraction(self) -> float | None:
        """``drifts_below`` or ``drifts_above``; None when this is no drift rule."""
        return self.drifts_below if self.drifts_below is not None else self.drifts_above

    @property
    def demands(self) -> tuple[Demand, ...]:
        """Intervals that it demands of each step."""
        level = self.demand_interval
        return () if level is None else tuple((m, level) for m in self._judged_metrics)

    @property
    def _judged_metrics(self) -> tuple[str, ...]:
        """Its metric, and the variant without solved groups where those are excused."""
        unsolved = f"{self.metric}_unsolved"
        excusing = self.excuse_solved and unsolved in INTERVAL_METRICS
        return (self.metric, unsolved) if excusing else (self.metric,)

    @property
    def has_fixed_level(self) -> bool:
        """Whether its threshold is a number that stands still, once a baseline is there."""
        level = self.falls_by is None and self.drift_fraction is None
        return level and not isinstance(self.above, str) and self.baseline == "first"

    def threshold(self, history: Sequence[StepMetrics]) -> float | None:
        """What the metric is held against at the last step of the history; None: not known.

        For ``below``, ``above`` and ``below_baseline``.
        """
        if isinstance(self.above, str):
            limit = history[-1].values.get(self.above)
            return None if limit is None else float(limit)
        given = self.below if self.below is not None else self.above
        return self._scale(history, given if given is not None else self.below_baseline)

    def is_worse(self, value: float, than: float) -> bool:
        """Whether ``value`` lies further on the bad side."""
        return self._sign * value < self._sign * than

    @property
    def _sign(self) -> int:
        """1 where low is bad, -1 where high is."""
        return 1 if self.above is None and self.drifts_above is None else -1

    def has_rows(self, step: StepMetrics) -> bool:
        """Whether enough rows stand behind the metric at a step."""
        return self.metric == "data_gap" or step.rows_behind(self.metric) >= self.min_rows

    def _judge_unknown(self, step: StepMetrics) -> Judgement:
        solved = self.excuse_solved and step.values.get("solved_group_share") == 1.0
        return Judgement("solved" if solved else "no data")

    def _judged(self, history: Sequence[StepMetrics]) -> list[StepMetrics]:
        """The last ``mean_of`` steps with data, the latest first; fewer where there are no more.

        Steps that are history are left out: no step is judged by what came before its job.
        """
        judged = (
            step
            for step in reversed(history)
            if not step.is_history
            and self.has_rows(step)
            and step.values.get(self.metric) is not None
        )
        return list(islice(judged, self.mean_of))

    def _knows(self, step: StepMetrics, *columns: str) -> bool:
        """Whether a step has rows enough for the rule, and a finite value in each column."""
        return self.has_rows(step) and all(_is_finite(step.values.get(name)) for name in columns)

    def _is_excused(self, steps: Sequence[StepMetrics], threshold: float) -> bool:
        """Whether the first step, or the mean over all without solved groups, explains a breach."""
        row = steps[0].values
        if not self.excuse_solved:
            return False
        if is_solved(row):
            return True
        unsolved = _mean(steps, f"{self.metric}_unsolved")
        return unsolved is not None and not self.is_worse(unsolved, threshold)

    def _scale(self, history: Sequence[StepMetrics], value: float | None) -> float | None:
        if self.below_baseline is None or value is None:
            return value
        if self.baseline == "reference":
            known = [step.reference.get(self.metric) for step in self._judged(history)]
            there = [reference for reference in known if _is_finite(reference)]
            return value * sum(there) / len(there) if there and len(there) == len(known) else None
        values = (step.values[self.metric] for step in history if self._knows(step, self.metric))
        first = list(islice(values, self.baseline_steps + 1))
        if len(first) <= self.baseline_steps:
            return None
        return float(value * sum(first[: self.baseline_steps]) / self.baseline_steps)

    def _judge_fall(self, history: Sequence[StepMetrics]) -> Judgement:
        assert self.falls_by is not None
        columns = (self.metric, self.while_rising or "reward")
        if not self._knows(history[-1], *columns):
            return Judgement("no data")
        known = (step for step in reversed(history) if self._knows(step, *columns))
        steps = list(islice(known, 2 * self.window))
        if len(steps) < 2 * self.window:
            return Judgement("no data")
        after, before = steps[: self.window], steps[self.window :]
        if any(step.is_history for step in after):
            return Judgement("no data")
        means = [_mean(rows, name) for name in columns for rows in (before, after)]
        old, new, rising_old, rising_new = (mean for mean in means if mean is not None)
        threshold = old * (1 - self.falls_by)
        if new < threshold and rising_new > rising_old:
            excused = self._is_excused(history[-1:], threshold)
            return Judgement("solved" if excused else "breached", new, threshold)
        return Judgement("recovered", new, threshold)


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _mean(steps: Sequence[StepMetrics], column: str) -> float | None:
    values = [step.values.get(column) for step in steps]
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
