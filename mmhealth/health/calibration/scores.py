"""What rules are worth: harm seen coming, by how many steps, and false alarms.

An alarm is one firing while no alert stands. It sees a harm coming when its alert fires at or
before the step of the harm and has not resolved by then; its lead is the steps between. A run that
never learned has no onset: seen is what stands when its evaluations could first tell, it has no
lead, and the step of the alert is kept. On healthy
runs every alarm is false, and they are counted per step at which one could fire: an alert that
never resolves is no long stretch without false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from mmhealth.estimators import clopper_pearson, poisson_upper
from mmhealth.health.calibration.replay import Course, play
from mmhealth.health.rules import Rule

CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one rule, or of a pack of rules, over a set of runs."""

    sick: int
    """Runs that came to harm and had data for the rule."""
    detected: int
    """Those of them whose harm was seen coming."""
    leads: tuple[int, ...]
    """Steps of warning, one a detected stall or regression, ascending."""
    told_at: tuple[int, ...]
    """Step of the alert, one a detected run that never learned, ascending."""
    warning_steps: int
    """Steps from alert to harm, over all detected runs together."""
    healthy_runs: int
    """Runs known to have come to no harm that had data for the rule."""
    healthy_steps: int
    """Their steps with data at which no alert stood."""
    false_alarms: tuple[int, ...]
    """False alarms of each healthy run, in the order of the runs."""
    steps_of_runs: tuple[int, ...]
    """Such steps of each healthy run, in the same order."""
    judged_steps: int
    """All steps of the healthy runs that had data."""

    @property
    def detection(self) -> tuple[float, float, float] | None:
        """Share of the sick runs that are detected, with its Clopper-Pearson interval (95 %)."""
        if not self.sick:
            return None
        return (self.detected / self.sick, *clopper_pearson(self.detected, self.sick, CONFIDENCE))

    @property
    def lead(self) -> float | None:
        """Median lead in steps."""
        return median(self.leads) if self.leads else None

    @property
    def false_per_1000(self) -> float | None:
        """False alarms per 1,000 healthy steps."""
        return 1000 * sum(self.false_alarms) / self.healthy_steps if self.healthy_steps else None

    @property
    def false_per_1000_upper(self) -> float | None:
        """Its one-sided 95 % upper bound: the larger of Garwood's, which holds for alarms that come
        one by one, and that of a bootstrap over runs, for alarms that crowd in a few of them."""
        if not self.healthy_steps:
            return None
        exact = poisson_upper(sum(self.false_alarms), CONFIDENCE) / self.healthy_steps
        return 1000 * max(exact, self._bootstrap_upper())

    @property
    def runs_with_false_alarms(self) -> tuple[float, float, float] | None:
        """Share of the healthy runs with at least one false alarm, with its interval (95 %)."""
        if not self.healthy_runs:
            return None
        count = sum(number > 0 for number in self.false_alarms)
        return (count / self.healthy_runs, *clopper_pearson(count, self.healthy_runs, CONFIDENCE))

    def _bootstrap_upper(self) -> float:
        alarms_of, steps = np.array(self.false_alarms), np.array(self.steps_of_runs)
        if not alarms_of.any():
            return 0.0
        order = np.lexsort((steps, alarms_of))
        drawn = np.random.default_rng(_SEED).integers(0, len(order), (_RESAMPLES, len(order)))
        rates = alarms_of[order][drawn].sum(1) / np.maximum(steps[order][drawn].sum(1), 1)
        return float(np.quantile(rates, CONFIDENCE))


def score(rules: Sequence[Rule], courses: Sequence[Course]) -> Score:
    """Some rules taken together, over the runs that have data for one of them."""
    sick, judged = 0, 0
    leads, told_at, false, steps = list[int](), list[int](), list[int](), list[int]()
    warning_steps = 0
    for course in courses:
        if course.is_healthy:
            played = play(rules, course.healthy_steps)
            if played.quiet_steps:
                false.append(played.alarms)
                steps.append(played.quiet_steps)
                judged += played.judged_steps
        elif course.is_sick and course.harm.step is not None:
            harm = course.harm.step
            played = play(rules, [step for step in course.steps if step.values["step"] <= harm])
            if played.quiet_steps:
                sick += 1
                seen = [alert.step for alert in played.alerts if alert.resolved_step is None]
                if not seen:
                    continue
                warning_steps += harm - min(seen)
                if course.harm.kind == "never":
                    told_at.append(min(seen))
                else:
                    leads.append(harm - min(seen))
    return Score(
        sick=sick,
        detected=len(leads) + len(told_at),
        leads=tuple(sorted(leads)),
        told_at=tuple(sorted(told_at)),
        warning_steps=warning_steps,
        healthy_runs=len(false),
        healthy_steps=sum(steps),
        false_alarms=tuple(false),
        steps_of_runs=tuple(steps),
        judged_steps=judged,
    )
