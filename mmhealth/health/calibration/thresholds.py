"""Moves the thresholds of a policy until its rules cry wolf no more often than asked for."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from mmhealth.errors import CalibrationError
from mmhealth.health.calibration.replay import Course
from mmhealth.health.calibration.scores import Score, score_pack, score_rule
from mmhealth.health.policy import Policy
from mmhealth.health.rules import Rule

_GRID = 200
"""Candidate thresholds of a rule: quantiles of what its metric was."""
_FRACTIONS = tuple(round(0.05 * k, 2) for k in range(1, 20))
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
    pack: Score
    """All critical rules of the new policy together."""
    courses: tuple[Course, ...]


def calibrate(courses: Sequence[Course], policy: Policy, target: float) -> Calibration:
    """Choose thresholds on ``courses``.

    A rule keeps its threshold when its upper bound of false alarms meets ``target`` (alarms a
    healthy step) and no other that meets it sees more harm coming, or sees it earlier. Else it gets
    the most sensitive threshold that meets the target. Raises CalibrationError where there are
    fewer than 3 / target healthy steps: not even a rule that never fires would meet it.
    """
    if not 0 < target < 1:
        raise CalibrationError(f"target: {target:g} false alarms a step is not between 0 and 1")
    healthy = sum(len(course.steps) for course in courses if course.is_healthy)
    needed = ceil(3 / target)
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
        pack=score_pack(critical, courses),
        courses=tuple(courses),
    )


def _choose(rule: Rule, courses: Sequence[Course], target: float) -> Choice:
    before = score_rule(rule, courses)

    def keep(why: str) -> Choice:
        return Choice(rule, rule, before, before, why)

    condition = next((name for name in _MOVED if _is_number(getattr(rule, name))), None)
    if condition is None:
        return keep("its threshold is no number that could be moved")
    if not before.healthy_steps:
        return keep("no healthy run has data for it")
    if not before.sick and meets(before, target):
        return keep("meets the target; no sick run has data for it")
    candidates = _candidates(rule, condition, courses)
    scores: dict[int, Score] = {}

    def score(index: int) -> Score:
        if index not in scores:
            scores[index] = score_rule(_with(rule, condition, candidates[index]), courses)
        return scores[index]

    best = bisect_right(
        range(len(candidates)), 0, key=lambda k: 0 if meets(score(k), target) else 1
    )
    best -= 1
    while best >= 0 and not meets(score(best), target):
        best -= 1
    if best < 0:
        return keep("no threshold meets the target")
    chosen = score(best)
    better = (chosen.detected, sum(chosen.leads)) > (before.detected, sum(before.leads))
    if meets(before, target) and not better:
        return keep("meets the target, and no threshold that does sees harm earlier")
    why = "sees harm earlier and meets the target" if meets(before, target) else "cried wolf"
    return Choice(rule, _with(rule, condition, candidates[best]), before, chosen, why)


def meets(score: Score, target: float) -> bool:
    """Whether the upper bound of false alarms stays at or below ``target`` a step."""
    upper = score.false_per_1000_upper
    return upper is not None and upper <= 1000 * target * (1 + 1e-9)


def _candidates(rule: Rule, condition: str, courses: Sequence[Course]) -> list[float]:
    """Thresholds from the least sensitive to the most."""
    if condition in ("below_baseline", "falls_by"):
        return sorted(_FRACTIONS, reverse=condition == "falls_by")
    seen = [step.values.get(rule.metric) for course in courses for step in course.steps]
    known = np.array([value for value in seen if value is not None], np.float64)
    levels = np.quantile(known, np.linspace(0, 1, _GRID + 1))[1:-1]
    rounded = sorted({float(f"{level:.3g}") for level in levels})
    return [level for level in rounded if 0 < level < 1] if condition == "below" else rounded[::-1]


def _with(rule: Rule, condition: str, threshold: float) -> Rule:
    """The rule at another threshold; its recovery threshold moves along in proportion."""
    changes: dict[str, Any] = {condition: threshold}
    old = getattr(rule, condition)
    if rule.recover is not None:
        ratio = rule.recover / old if old else 1.0
        changes["recover"] = float(f"{threshold * ratio:.3g}")
        if condition == "below":
            changes["recover"] = min(max(changes["recover"], threshold), 1.0)
        if condition == "above":
            changes["recover"] = min(changes["recover"], threshold)
    return replace(rule, **changes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
