"""One run against a fleet: where each of its numbers lies among those of other runs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from mmhealth.health import Policy, Rule
from mmhealth.health.verdict import VerdictName
from mmhealth.report.audit import Audit, RunAudit
from mmhealth.report.compare import NOT_SET, RuleCourse, rule_courses, settings
from mmhealth.report.metrics import SUMMARISED, judged_metrics
from mmhealth.report.samesteps import (
    LAST_STEPS,
    Share,
    held_out_shares,
    is_enough,
    last_steps,
    mean_of,
    values_at,
)

LEAST_RUNS = 2
"""Runs of the fleet that must know a number before a place among them means anything."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies among those of the fleet."""

    value: float
    fleet: tuple[float, ...]
    """Values of the runs that know it, ascending."""
    beside: tuple[float, ...] = ()
    """What each of these is held against, where it is not ``value``: the run's mean over the steps
    that both know."""

    @property
    def below(self) -> int:
        """Runs of the fleet with a smaller value."""
        return sum(other < own for own, other in self._pairs())

    @property
    def above(self) -> int:
        """Runs of the fleet with a larger value."""
        return sum(other > own for own, other in self._pairs())

    def _pairs(self) -> Iterable[tuple[float, float]]:
        return zip(self.beside or (self.value,) * len(self.fleet), self.fleet, strict=True)

    @property
    def rank(self) -> float:
        """Share of the fleet below, equal ones counted half: 0 is lowest of all, 1 highest."""
        n = len(self.fleet)
        return (self.below + (n - self.below - self.above) / 2) / n

    def quantiles(self) -> tuple[float, float, float, float, float]:
        """Minimum, quartiles and maximum of the fleet, linearly interpolated."""
        low, first, middle, third, high = np.quantile(self.fleet, (0.0, 0.25, 0.5, 0.75, 1.0))
        return float(low), float(first), float(middle), float(third), float(high)


@dataclass(frozen=True, slots=True)
class MetricPlace:
    """One metric of the run, the mean over its last steps, among the fleet's at the same steps."""

    name: str
    place: Place | None
    reason: str | None
    """Why there is no place."""


@dataclass(frozen=True, slots=True)
class RulePlace:
    """What one rule said of the run, and of how many of the fleet."""

    rule: Rule
    course: RuleCourse
    fired: int
    """Runs of the fleet in which it fired."""
    median_first_alert: float | None
    """Of those, the median step at which it first did."""


@dataclass(frozen=True, slots=True)
class HeldOutPlace:
    """The run's last held-out success among the fleet's at the same step and horizon."""

    step: int
    eval_horizon: int | None
    share: Share
    place: Place


@dataclass(frozen=True, slots=True)
class SettingPlace:
    """A setting that the run shares with less than half of the fleet."""

    key: str
    value: Any
    usual: Any
    """The fleet's most frequent value."""
    shared: int
    """Runs of the fleet that have the run's value."""


@dataclass(frozen=True, slots=True)
class FleetComparison:
    """One run against a fleet, judged by one policy."""

    run: RunAudit
    fleet: tuple[RunAudit, ...]
    policy: Policy
    steps: tuple[int, ...]
    """The run's last steps, ascending: where metrics are compared."""
    verdicts: dict[VerdictName, int]
    """How many of the fleet have which."""
    metrics: tuple[MetricPlace, ...]
    rules: tuple[RulePlace, ...]
    held_out: HeldOutPlace | None
    held_out_reason: str | None
    config: tuple[SettingPlace, ...]
    left_out: tuple[str, ...]
    """In words: what was given as part of the fleet and cannot be read."""


def compare_with_fleet(
    audit: Audit, last: int = LAST_STEPS, left_out: Sequence[str] = ()
) -> FleetComparison:
    """Compare the first run of an audit with all others, at least one. Raises ValueError."""
    run, *fleet = audit.runs
    if not fleet:
        raise ValueError("a fleet needs at least one run beside the one that is compared with it")
    steps = run.steps[-last:]
    held_out = _place_held_out(run, fleet)
    return FleetComparison(
        run=run,
        fleet=tuple(fleet),
        policy=audit.policy,
        steps=tuple(steps),
        verdicts=dict(Counter(other.verdict.name for other in fleet)),
        metrics=tuple(
            _place_metric(name, run, fleet, steps)
            for name in judged_metrics(audit.policy, SUMMARISED)
        ),
        rules=_place_rules(audit.policy, run, fleet),
        held_out=held_out if isinstance(held_out, HeldOutPlace) else None,
        held_out_reason=held_out if isinstance(held_out, str) else None,
        config=_place_settings(run, fleet),
        left_out=tuple(left_out),
    )


def _place_metric(
    name: str, run: RunAudit, fleet: Sequence[RunAudit], steps: list[int]
) -> MetricPlace:
    own = values_at(run.monitor.timeline.frame, name, steps)
    if not is_enough(len(own), len(steps)):
        why = run.monitor.timeline.reason(steps[-1], name) if steps else "no step could be judged"
        return MetricPlace(name, None, why or f"known at few of the last {len(steps)} steps")
    pairs = []
    for other in fleet:
        theirs = values_at(other.monitor.timeline.frame, name, steps)
        both = own.keys() & theirs.keys()
        if is_enough(len(both), len(steps)):
            pairs.append((mean_of(theirs[s] for s in both), mean_of(own[s] for s in both)))
    return MetricPlace(name, *_place(mean_of(own.values()), pairs))


def _place(value: float, pairs: Iterable[tuple[float, float]]) -> tuple[Place | None, str | None]:
    """The place of a value, from each value of the fleet with what it is held against."""
    known = sorted(pairs)
    if len(known) < LEAST_RUNS:
        return None, f"{len(known)} of the fleet know it at these steps, {LEAST_RUNS} are needed"
    fleet, beside = zip(*known, strict=True)
    return Place(value, fleet, beside), None


def _place_rules(policy: Policy, run: RunAudit, fleet: Sequence[RunAudit]) -> tuple[RulePlace, ...]:
    own = rule_courses(run)
    places = []
    for rule in policy.rules:
        alerts = [[a.step for a in other.standing if a.rule == rule.name] for other in fleet]
        first = [min(steps) for steps in alerts if steps]
        middle = float(median(first)) if first else None
        places.append(RulePlace(rule, own[rule.name], len(first), middle))
    return tuple(places)


def _place_held_out(run: RunAudit, fleet: Sequence[RunAudit]) -> HeldOutPlace | str:
    own, horizon = held_out_shares(run.run), run.held_out.eval_horizon
    step = last_steps(own).get(horizon)
    if step is None:
        return "no held-out evaluation is logged"
    share = own[horizon, step]
    shares = [held_out_shares(other.run).get((horizon, step)) for other in fleet]
    place, why = _place(share.rate, [(other.rate, share.rate) for other in shares if other])
    if place is None:
        return f"at step {step}: {why}"
    return HeldOutPlace(step, horizon, share, place)


def _place_settings(run: RunAudit, fleet: Sequence[RunAudit]) -> tuple[SettingPlace, ...]:
    own, others = settings(run.run), [settings(other.run) for other in fleet]
    places = []
    for key in dict.fromkeys(name for known in (own, *others) for name in known):
        value = own.get(key, NOT_SET)
        values = [known.get(key, NOT_SET) for known in others]
        shared = values.count(value)
        if 2 * shared < len(values):
            usual = max(values, key=values.count)
            places.append(SettingPlace(key, value, usual, shared))
    return tuple(places)
