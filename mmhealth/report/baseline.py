"""Whether a run is no worse than a baseline run: what `mmhealth gate --baseline` asks."""

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from mmhealth.estimators import difference_interval
from mmhealth.health import Policy, Rule, Timeline
from mmhealth.health.demand import interval_of_mean
from mmhealth.health.solved import is_failing, is_solved
from mmhealth.place import RunPlace
from mmhealth.report.audit import RunAudit
from mmhealth.report.dataloss import describe_data, is_damaged
from mmhealth.report.samesteps import (
    LAST_STEPS,
    HeldOutPair,
    Shares,
    common_steps,
    held_out_pairs,
    held_out_shares,
    is_enough,
    last_steps,
    mean_of,
    values_at,
)

Reading = Literal["holds", "worse", "insufficient"]

HELD_OUT = "held-out success"
DATA = "data of the baseline"


@dataclass(frozen=True, slots=True)
class Against:
    """The baseline of a gate, and how much worse a run may be."""

    path: RunPlace
    tolerance: float = 0.1
    """Of success: in points of the rate (0.1 is ten of a hundred). Of a metric: a fraction of the
    baseline's mean, or of the rule's threshold where that is larger."""
    last: int = LAST_STEPS
    """Steps whose mean stands for a metric."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing in which a run must not be worse than the baseline."""

    name: str
    """`HELD_OUT`, with its horizon where one is logged; a metric of the timeline; or `DATA` where
    the baseline is damaged or cannot be read."""
    reading: Reading
    why: str
    """A sentence with the numbers."""
    value: float | None = None
    """Of the run: success rate, or mean over the last steps."""
    baseline: float | None = None
    allowed: float | None = None
    """How far on the bad side of the baseline's it may lie."""
    low: float | None = None
    """Of success: 95 % interval of the run's rate minus the baseline's. Of a metric on which a rule
    demands an interval: that of the run's mean minus the baseline's."""
    high: float | None = None


def hold_against(
    run: RunAudit, baseline: RunAudit | str, against: Against, policy: Policy
) -> tuple[Check, ...]:
    """Held-out success at each horizon first, then each metric that a rule of the gate watches.

    What the baseline does not know is not asked. Steps beyond the gate's ``to_step`` do not count.
    Of a baseline that cannot be read ``baseline`` says why.
    """
    if isinstance(baseline, str):
        return (Check(DATA, "insufficient", f"the baseline cannot be read: {baseline}"),)
    up_to = policy.gate.to_step
    shares = held_out_shares(run.run, up_to), held_out_shares(baseline.run, up_to)
    checks = []
    if is_damaged(baseline.status):
        why = f"the baseline's data are damaged: {describe_data(baseline.status)[0]}"
        checks.append(Check(DATA, "insufficient", why))
    if shares[1]:
        reached = _reached(shares[1], shares[0], run.steps, baseline.steps)
        checks += _check_success(shares[0], reached, against.tolerance)
    ours, theirs = (_up_to(audit.monitor.timeline.frame, up_to) for audit in (run, baseline))
    steps = common_steps(ours, theirs, against.last)
    for (metric, higher_is_worse), rules in _watched(policy).items():
        timelines = run.monitor.timeline, baseline.monitor.timeline
        question = _Question(metric, higher_is_worse, tuple(rules), against.tolerance, timelines)
        if theirs[metric].null_count() < len(theirs):
            checks += question.ask(ours, theirs, steps)
    return tuple(checks)


def _reached(baseline: Shares, run: Shares, steps: list[int], baseline_steps: list[int]) -> Shares:
    """Evaluations of the baseline that the run is long enough to have, too."""
    last = max((*steps, *(step for _, step in run)), default=-1)
    if last >= max(baseline_steps, default=0):
        return baseline
    return {key: share for key, share in baseline.items() if key[1] <= last}


def _check_success(run: Shares, baseline: Shares, tolerance: float) -> list[Check]:
    """One check for each horizon of the baseline's."""
    if not baseline:
        why = f"{HELD_OUT}: the baseline was evaluated only at steps that the run has not reached"
        return [Check(HELD_OUT, "insufficient", why, allowed=tolerance)]
    pairs = {pair.eval_horizon: pair for pair in held_out_pairs(baseline, run)}
    return [
        _check_horizon(horizon, step, pairs.get(horizon), tolerance)
        for horizon, step in last_steps(baseline).items()
    ]


def _check_horizon(
    horizon: int | None, last: int, pair: HeldOutPair | None, tolerance: float
) -> Check:
    """The check at one horizon, at which the baseline was last evaluated at step ``last``."""
    name = HELD_OUT if horizon is None else f"{HELD_OUT} at horizon {horizon}"
    if pair is None:
        why = f"{name}: the run was not evaluated at a step of the baseline's, the last is {last}"
        return Check(name, "insufficient", why, allowed=tolerance)
    low, high = pair.interval()
    reading: Reading = "holds"
    unclear = ""
    if high < -tolerance:
        reading = "worse"
    elif low < -tolerance:
        reading = "insufficient"
        unclear = "; its interval reaches both sides: evaluate more episodes"
    elif pair.step < last:
        reading = "insufficient"
        unclear = f"; the run was not evaluated at step {last}"
    why = (
        f"{name}, step {pair.step}: {pair.second} against {pair.first}, difference "
        f"{pair.difference:+.3f} [{low:+.3f} {high:+.3f}], allowed {-tolerance:+.3g}{unclear}"
    )
    return Check(name, reading, why, pair.second.rate, pair.first.rate, tolerance, low, high)


def _watched(policy: Policy) -> dict[tuple[str, bool], list[Rule]]:
    """Rules on which the gate can fail, by metric and whether its bad side is the high one."""
    watched: dict[tuple[str, bool], list[Rule]] = {}
    for rule in policy.rules:
        if policy.can_fail(rule.name, rule.severity):
            watched.setdefault((rule.metric, rule.is_worse(1.0, 0.0)), []).append(rule)
    return watched


def _up_to(frame: pl.DataFrame, step: int | None) -> pl.DataFrame:
    return frame if step is None else frame.filter(pl.col("step") <= step)


@dataclass(frozen=True, slots=True)
class _Question:
    """Whether the mean of one metric is no worse than the baseline's."""

    metric: str
    higher_is_worse: bool
    rules: tuple[Rule, ...]
    tolerance: float
    timelines: tuple[Timeline, Timeline]
    """Of the run and of the baseline."""

    def ask(self, run: pl.DataFrame, baseline: pl.DataFrame, steps: list[int]) -> list[Check]:
        """One check; none where the baseline does not know the metric at these steps."""
        if not steps:
            return [self._insufficient("the run and the baseline have no step in common")]
        theirs = values_at(baseline, self.metric, steps)
        if not is_enough(len(theirs), len(steps)):
            return []
        if all(rule.while_failing for rule in self.rules) and (check := self._fails(run, steps)):
            return [check]
        if self._excuses and is_enough(len(_solved(run, steps)), len(steps)):
            return [Check(self.metric, "holds", f"{self.metric}: the run has solved its task")]
        ours = values_at(run, self.metric, steps)
        both = sorted(ours.keys() & theirs.keys())
        if not is_enough(len(both), len(steps)):
            return [
                self._insufficient(f"known at {len(both)} of the last {len(steps)} common steps")
            ]
        reference = mean_of(theirs[step] for step in both)
        allowed = self.tolerance * max(abs(reference), *map(_scale, self.rules))
        value = mean_of(ours[step] for step in both)
        worse, excused = self._is_worse(value, reference, allowed), False
        if worse and self._excuses:
            unsolved = self._mean_unsolved(run, both)
            excused = unsolved is not None and not self._is_worse(unsolved, reference, allowed)
            worse = not excused
        why = (
            f"{self.metric} {value:.3g} against {reference:.3g}, mean of {len(both)} steps up to "
            f"{both[-1]}, allowed {'+' if self.higher_is_worse else '-'}{allowed:.3g}"
        )
        check = Check(self.metric, "worse" if worse else "holds", why, value, reference, allowed)
        levels = [rule.demand_interval for rule in self.rules if rule.demand_interval is not None]
        return [self._demand(check, both, max(levels)) if levels and not excused else check]

    def _demand(self, check: Check, steps: list[int], level: float) -> Check:
        """The check as far as the interval of the difference bears it out."""
        assert check.value is not None
        assert check.baseline is not None
        assert check.allowed is not None
        ends = []
        for whose, timeline in zip(("run", "baseline"), self.timelines, strict=True):
            at = {key.step: metrics for key, metrics in timeline.visible()}
            found = interval_of_mean([at[step] for step in steps], self.metric, level)
            if isinstance(found, str) or not found.reliable:
                doubt = found if isinstance(found, str) else f"unreliable: {found.why}"
                why = f"{check.why}; interval of the {whose}: {doubt}"
                return replace(check, reading="insufficient", why=why)
            ends.append((found.low, found.high))
        low, high = difference_interval(check.value, ends[0], check.baseline, ends[1])
        worse = {self._is_worse(end, 0.0, check.allowed) for end in (low, high)}
        about = f"{100 * level:g} % interval of the difference {low:+.3g} to {high:+.3g}"
        told = replace(check, why=f"{check.why}; {about}", low=low, high=high)
        if worse == {check.reading == "worse"}:
            return told
        why = f"{told.why} reaches both sides: more groups a step tell more"
        return replace(told, reading="insufficient", why=why)

    @property
    def _excuses(self) -> bool:
        return all(rule.excuse_solved for rule in self.rules)

    def _fails(self, run: pl.DataFrame, steps: list[int]) -> Check | None:
        """What spares the comparison for rules that ask for prompts that fail; None: nothing."""
        known = values_at(run, "failed_group_share", steps)
        if not is_enough(len(known), len(steps)):
            return self._insufficient("failed_group_share, which its rules ask for, is not known")
        if is_enough(
            sum(is_failing({"failed_group_share": v}) for v in known.values()), len(steps)
        ):
            return None
        return Check(self.metric, "holds", f"{self.metric}: most prompts of the run do not fail")

    def _insufficient(self, why: str) -> Check:
        return Check(self.metric, "insufficient", f"{self.metric}: {why}")

    def _is_worse(self, value: float, reference: float, allowed: float) -> bool:
        return (value - reference if self.higher_is_worse else reference - value) > allowed

    def _mean_unsolved(self, run: pl.DataFrame, steps: list[int]) -> float | None:
        if (name := f"{self.metric}_unsolved") not in run.columns:
            return None
        known = values_at(run, name, steps)
        return mean_of(known.values()) if is_enough(len(known), len(steps)) else None


def _solved(run: pl.DataFrame, steps: list[int]) -> list[int]:
    """Steps at which a rule with ``excuse_solved`` would read a breach as solved, whatever ESS."""
    rows = run.filter(pl.col("step").is_in(steps)).select(
        "step", "success_rate", "solved_group_share"
    )
    return [row["step"] for row in rows.iter_rows(named=True) if is_solved(row)]


def _scale(rule: Rule) -> float:
    """The rule's threshold, where it is a number on the metric's own scale."""
    threshold = rule.below if rule.below is not None else rule.above
    return abs(threshold) if isinstance(threshold, float | int) else 0.0
