"""Moves the thresholds of a policy until its rules cry wolf no more often than asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from mmhealth.errors import CalibrationError
from mmhealth.health.calibration.replay import Course
from mmhealth.health.calibration.scores import Score, score
from mmhealth.health.policy import Policy
from mmhealth.health.rule_table import UNIT_INTERVAL
from mmhealth.health.rules import Rule
from mmhealth.health.verdict import ON_THE_DATA

_GRID = 60
"""Candidate thresholds of a rule: quantiles of what its metric was."""
_FRACTIONS = tuple(round(0.05 * k, 2) for k in range(1, 20))
_LEAST_ALARMS = 3
"""Upper bound (95 %) of the mean of a count of which none was seen, rounded."""
_MOVED = ("below", "above", "below_baseline", "falls_by")


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided about one rule."""

    before: Rule
    rule: Rule
    """With the threshold chosen; as it was where there was nothing to choose."""
    score_before: Score
    score: Score
    why: str

    @property
    def moved(self) -> bool:
        """The threshold is another one now."""
        return self.rule != self.before


@dataclass(frozen=True, slots=True)
class Calibration:
    """A policy with the evidence for its thresholds."""

    policy: Policy
    target: float
    """False alarms a healthy step that the upper bound of each rule is to stay below."""
    choices: tuple[Choice, ...]
    pack: Score | None
    """All critical rules of the new policy together; None where it has none."""
    courses: tuple[Course, ...]


def calibrate(courses: Sequence[Course], policy: Policy, target: float) -> Calibration:
    """Choose thresholds on ``courses``.

    A rule keeps its threshold when its upper bound of false alarms meets ``target`` (alarms a
    healthy step) and no other that meets it sees more harm coming, or sees it earlier. Else it gets
    the one of those that meet the target which sees most, and earliest. Rules that are held against
    a reference run or follow a drift are reported, not moved. Raises CalibrationError where there
    are fewer than 3 / target healthy steps: not even a rule that never fires would meet it.
    """
    if not 0 < target < 1:
        raise CalibrationError(f"target: {target:g} false alarms a step is not between 0 and 1")
    healthy = sum(len(course.healthy_steps) for course in courses)
    needed = ceil(_LEAST_ALARMS / target)
    if healthy < needed:
        known = sum(course.is_healthy for course in courses)
        raise CalibrationError(
            f"a target of {1000 * target:g} false alarms per 1,000 steps takes {needed:,} healthy "
            f"steps (3 / target); the {known} healthy runs have {healthy:,}: {needed - healthy:,} "
            "are missing. Give more runs, or ask for less"
        )
    choices = tuple(_choose(rule, courses, target) for rule in policy.rules)
    rules = tuple(choice.rule for choice in choices)
    critical = [rule for rule in rules if rule.severity == "critical"]
    return Calibration(
        policy=replace(policy, rules=rules),
        target=target,
        choices=choices,
        pack=score(critical, courses) if critical else None,
        courses=tuple(courses),
    )


def _choose(rule: Rule, courses: Sequence[Course], target: float) -> Choice:
    before = score([rule], courses)
    condition = next((name for name in _MOVED if _is_number(getattr(rule, name))), None)
    reason = _why_not(before, target)
    if rule.metric in ON_THE_DATA:
        reason = "it speaks of the data, not of training"
    elif condition is None:
        reason = "its threshold is a column, or its alarms have a bound of their own"
    if condition is None or reason is not None:
        return Choice(rule, rule, before, before, reason or "")
    tried = [_with(rule, condition, level) for level in _candidates(rule, condition, courses)]
    scored = [(score([other], courses), other) for other in tried]
    good = [(found, other) for found, other in scored if meets(found, target)]
    if not good:
        return Choice(rule, rule, before, before, "no threshold meets the target")
    chosen, best = max(good, key=lambda pair: _worth(pair[0]))
    if not meets(before, target):
        return Choice(rule, best, before, chosen, "cried wolf")
    if _worth(chosen) > _worth(before):
        return Choice(rule, best, before, chosen, "sees harm earlier and meets the target")
    why = "meets the target, and no threshold that does sees harm earlier"
    return Choice(rule, rule, before, before, why)


def _why_not(before: Score, target: float) -> str | None:
    """Why there is nothing to choose for a rule; None when there is."""
    if not before.healthy_steps:
        return "no healthy run has data for it"
    if before.judged_steps * target < _LEAST_ALARMS:
        needed = ceil(_LEAST_ALARMS / target)
        return f"judged at {before.judged_steps:,} healthy steps; the target takes {needed:,}"
    if not before.sick and meets(before, target):
        return "meets the target; no sick run has data for it"
    return None


def _worth(found: Score) -> tuple[int, int]:
    """More harm seen coming first, then earlier."""
    return found.detected, found.warning_steps


def meets(score: Score, target: float) -> bool:
    """Whether the upper bound of false alarms stays at or below ``target`` a step."""
    upper = score.false_per_1000_upper
    return upper is not None and upper <= 1000 * target * (1 + 1e-9)


def _candidates(rule: Rule, condition: str, courses: Sequence[Course]) -> list[float]:
    """Thresholds from the least sensitive to the most, all of which a policy may have."""
    if condition in ("below_baseline", "falls_by"):
        return sorted(_FRACTIONS, reverse=condition == "falls_by")
    seen = [step.values.get(rule.metric) for course in courses for step in course.steps]
    known = np.array([value for value in seen if value is not None], np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return []
    levels = np.quantile(known, np.linspace(0, 1, _GRID + 1))
    rounded = sorted({float(f"{level:.3g}") for level in levels}, reverse=condition == "above")
    inside = UNIT_INTERVAL.match(rule.metric) is not None
    return [level for level in rounded if 0 < level < 1 or not inside]


def _with(rule: Rule, condition: str, threshold: float) -> Rule:
    """The rule at another threshold; its recovery threshold moves along in proportion."""
    changes: dict[str, Any] = {condition: threshold}
    old = getattr(rule, condition)
    if rule.recover is not None:
        recover = float(f"{threshold * (rule.recover / old if old else 1.0):.3g}")
        if UNIT_INTERVAL.match(rule.metric):
            recover = min(recover, 1.0)
        better = min if condition == "above" else max
        changes["recover"] = better(recover, threshold)
    return replace(rule, **changes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
