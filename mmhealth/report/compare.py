"""Two runs side by side: verdicts, metrics at the same steps, held-out success, config, data."""

from dataclasses import dataclass, replace
from typing import Any

from mmhealth.health import Policy, Rule, Timeline
from mmhealth.health.alerts import RuleState
from mmhealth.health.rule_engine import RuleEngine
from mmhealth.report.audit import Audit, RunAudit
from mmhealth.report.metrics import SUMMARISED, judged_metrics
from mmhealth.report.samesteps import (
    LAST_STEPS,
    HeldOutPair,
    common_steps,
    held_out_pairs,
    held_out_shares,
    is_enough,
    mean_of,
    values_at,
)
from mmhealth.runlog import Run

NOT_SET = "not set"
"""Value of a setting that a run does not have, or has as null."""


@dataclass(frozen=True, slots=True)
class MetricPair:
    """One metric of two runs, each the mean over the same steps."""

    name: str
    steps: int
    """Steps behind the means: those at which both know it."""
    first: float | None
    second: float | None
    reason: str | None
    """Why there are no means; None when there are."""

    @property
    def difference(self) -> float | None:
        """The second minus the first."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first


@dataclass(frozen=True, slots=True)
class RuleCourse:
    """What one rule said of one run."""

    state: RuleState
    first_crossing: int | None
    """First step that breached, however short the breach; None: none did."""
    first_alert: int | None
    """First step at which it fired."""
    alerts: int
    """How often it fired. Superseded alerts do not count."""


@dataclass(frozen=True, slots=True)
class RulePair:
    """What one rule said of two runs."""

    rule: Rule
    first: RuleCourse
    second: RuleCourse


@dataclass(frozen=True, slots=True)
class ConfigPair:
    """A setting in which two runs differ."""

    key: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, judged by one policy, compared at the same steps."""

    first: RunAudit
    second: RunAudit
    policy: Policy
    last: int
    """Steps asked for."""
    steps: tuple[int, ...]
    """The last steps that both have, ascending: where metrics are compared."""
    metrics: tuple[MetricPair, ...]
    rules: tuple[RulePair, ...]
    held_out: tuple[HeldOutPair, ...]
    """One for each horizon at which both were evaluated at the same step."""
    held_out_reason: str | None
    """Why held-out success is not compared."""
    config: tuple[ConfigPair, ...]


def compare_runs(audit: Audit, last: int = LAST_STEPS) -> Comparison:
    """Compare the two runs of an audit. Raises ValueError for another number of runs."""
    if len(audit.runs) != 2:
        raise ValueError(f"two runs can be compared, not {len(audit.runs)}")
    first, second = audit.runs
    frames = first.monitor.timeline.frame, second.monitor.timeline.frame
    steps = common_steps(*frames, last)
    courses = rule_courses(first), rule_courses(second)
    shares = held_out_shares(first.run), held_out_shares(second.run)
    pairs = held_out_pairs(*shares)
    return Comparison(
        first=first,
        second=second,
        policy=audit.policy,
        last=last,
        steps=tuple(steps),
        metrics=tuple(
            _pair(name, first.monitor.timeline, second.monitor.timeline, steps)
            for name in judged_metrics(audit.policy, SUMMARISED)
        ),
        rules=tuple(
            RulePair(rule, courses[0][rule.name], courses[1][rule.name])
            for rule in audit.policy.rules
        ),
        held_out=pairs,
        held_out_reason=None if pairs else _why_no_pair(first, second, *shares),
        config=_config_pairs(first, second),
    )


def rule_courses(run: RunAudit) -> dict[str, RuleCourse]:
    """What each rule of the policy said of a run."""
    crossings = _first_crossings(run)
    courses = {}
    for name, state in run.rules.items():
        fired = [alert.step for alert in run.standing if alert.rule == name]
        first_alert = min(fired, default=None)
        courses[name] = RuleCourse(state, crossings.get(name), first_alert, len(fired))
    return courses


def settings(run: Run) -> dict[str, Any]:
    """What is known of how a run was made, flat: ``loop.learning_rate`` for a nested table."""
    named = {name: run.about.get(name) for name in ("loss_ratio", "grad_norm", "nominal_batch")}
    return _flat(named, "") | _flat(run.config, "")


def _first_crossings(run: RunAudit) -> dict[str, int]:
    """First step at which each rule's condition held: the same rules, without persistence."""
    timeline, policy = run.monitor.timeline, run.monitor.policy
    eager = tuple(replace(rule, for_steps=1) for rule in policy.rules)
    engine = RuleEngine(replace(policy, rules=eager), reference=run.monitor.rule_engine.reference)
    engine.advance(timeline, min(timeline.lived, default=None))
    crossings: dict[str, int] = {}
    for alert in engine.alerts:
        if alert.state != "superseded":
            crossings[alert.rule] = min(alert.step, crossings.get(alert.rule, alert.step))
    return crossings


def _pair(name: str, first: Timeline, second: Timeline, steps: list[int]) -> MetricPair:
    known = [values_at(timeline.frame, name, steps) for timeline in (first, second)]
    both = sorted(known[0].keys() & known[1].keys())
    if is_enough(len(both), len(steps)):
        means = [mean_of(values[step] for step in both) for values in known]
        return MetricPair(name, len(both), means[0], means[1], None)
    return MetricPair(name, len(both), None, None, _why_unknown(name, first, second, steps, known))


def _why_unknown(
    name: str, first: Timeline, second: Timeline, steps: list[int], known: list[dict[int, float]]
) -> str:
    if not steps:
        return "the runs have no step in common"
    reasons: dict[str, str] = {}
    for side, timeline, values in (("first", first, known[0]), ("second", second, known[1])):
        if missing := [step for step in steps if step not in values]:
            reasons[side] = timeline.reason(missing[-1], name) or "not finite"
    if len(set(reasons.values())) == 1 and len(reasons) == 2:
        return reasons["first"]
    return "; ".join(f"{side} run: {why}" for side, why in reasons.items())


def _why_no_pair(first: RunAudit, second: RunAudit, *shares: dict[Any, Any]) -> str:
    lacking = [run.label for run, found in zip((first, second), shares, strict=True) if not found]
    if lacking:
        return f"no held-out evaluation is logged in {' and '.join(lacking)}"
    return "the runs were never evaluated at the same step and horizon"


def _config_pairs(first: RunAudit, second: RunAudit) -> tuple[ConfigPair, ...]:
    ours, theirs = settings(first.run), settings(second.run)
    pairs = (
        ConfigPair(key, ours.get(key, NOT_SET), theirs.get(key, NOT_SET))
        for key in dict.fromkeys((*ours, *theirs))
    )
    return tuple(pair for pair in pairs if pair.first != pair.second)


def _flat(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
