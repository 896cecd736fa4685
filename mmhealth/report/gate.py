"""The gate: whether runs are fit to go on with, by the policy's ``fail_on``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from mmhealth.errors import RunError
from mmhealth.health import Alert, Monitor, Policy
from mmhealth.health.undecided import Doubt
from mmhealth.health.verdict import ON_THE_DATA
from mmhealth.place import RunPlace
from mmhealth.report.audit import RunAudit, audit_runs
from mmhealth.report.baseline import Against, Check, hold_against
from mmhealth.report.dataloss import describe_data, is_damaged

Outcome = Literal["pass", "breach", "insufficient", "unreadable"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "breach": 1, "insufficient": 3, "unreadable": 3}


@dataclass(frozen=True, slots=True)
class RunDecision:
    """The gate's decision on one run."""

    label: str
    path: RunPlace
    outcome: Outcome
    why: str
    breaching: tuple[Alert, ...]
    """Alerts that make it a breach."""
    audit: RunAudit | None
    """None when the run is unreadable."""
    checks: tuple[Check, ...] = ()
    """What it was held against the baseline for, where one was given."""
    doubts: tuple[Doubt, ...] = ()
    """Rules that count and that the intervals they demand leave undecided: no pass with them."""

    @property
    def worse(self) -> tuple[Check, ...]:
        """Checks in which the run is worse than the baseline: they make it a breach too."""
        return tuple(check for check in self.checks if check.reading == "worse")


@dataclass(frozen=True, slots=True)
class Gate:
    """The decisions on all runs given."""

    policy: Policy
    runs: tuple[RunDecision, ...]
    against: Against | None = None

    @property
    def outcome(self) -> Outcome:
        """The decision on all of them: a breach outweighs data that are missing."""
        order: tuple[Outcome, ...] = ("pass", "insufficient", "unreadable", "breach")
        return max((run.outcome for run in self.runs), key=order.index)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 breach, 3 unreadable or insufficient data."""
        return EXIT_CODES[self.outcome]


def gate_runs(paths: Iterable[RunPlace], policy: Policy, against: Against | None = None) -> Gate:
    """Decide on runs, at least one; those that cannot be read come last.

    *breach*: an alert of the severity ``fail_on`` or a graver one fires at a step that the policy's
    `GateScope` looks at, or the run is worse than the baseline. *insufficient*: nothing of the
    kind, but no rule had data, files of the run are damaged, so that what they said is not known,
    the interval that a rule demands leaves it undecided, or a comparison with the baseline cannot
    be decided, as where that cannot be read. *unreadable*: not a run directory, or one that cannot
    be read.
    """
    baseline = _read(against, policy) if against else None
    monitors: dict[RunPlace, Monitor] = {}
    unreadable: dict[RunPlace, str] = {}
    for path in dict.fromkeys(paths):
        try:
            monitors[path] = Monitor(path, policy)
            monitors[path].poll()
        except (RunError, PermissionError) as error:
            unreadable[path] = str(error)
    audit = audit_runs(list(monitors.values())) if monitors else None
    decisions = []
    for run in audit.runs if audit else ():
        checks = hold_against(run, baseline, against, policy) if against and baseline else None
        decisions.append(decide(run, policy, checks))
    decisions += [
        RunDecision(str(path), path, "unreadable", why, (), None)
        for path, why in unreadable.items()
    ]
    return Gate(policy, tuple(decisions), against)


def _read(against: Against, policy: Policy) -> RunAudit | str:
    """The baseline, or why it cannot be read."""
    try:
        return audit_runs([Monitor(against.path, policy)]).runs[0]
    except (RunError, PermissionError) as error:
        return str(error)


def decide(run: RunAudit, policy: Policy, checks: tuple[Check, ...] | None = None) -> RunDecision:
    """The decision on one run that could be read; ``checks`` where there is a baseline."""
    breaching = tuple(a for a in run.standing if run.steps and policy.fails(a, run.steps[-1]))
    doubts = _doubts(run, policy)
    outcome, why = _outcome(run, breaching, doubts, policy, checks)
    return RunDecision(run.label, run.run.path, outcome, why, breaching, run, checks or (), doubts)


def _doubts(run: RunAudit, policy: Policy) -> tuple[Doubt, ...]:
    """Of each rule that counts, the last doubt at a step that the gate looks at."""
    if not run.steps:
        return ()
    first, last = policy.gate.steps(run.steps[-1])
    found = []
    for rule in policy.rules:
        if policy.can_fail(rule.name, rule.severity):
            doubts = run.monitor.rule_engine.doubts(rule)
            found += [doubts[step] for step in doubts if first <= step <= last][-1:]
    return tuple(found)


def _outcome(
    run: RunAudit,
    breaching: Sequence[Alert],
    doubts: Sequence[Doubt],
    policy: Policy,
    checks: tuple[Check, ...] | None,
) -> tuple[Outcome, str]:
    if why := _no_steps(run, policy):
        return "insufficient", why
    worse = [check.name for check in checks or () if check.reading == "worse"]
    if breaching or worse:
        names = ", ".join(dict.fromkeys(f"{a.rule} (since step {a.step})" for a in breaching))
        reasons = [f"firing at {policy.fail_on} or above: {names}"] if breaching else []
        reasons += [f"worse than the baseline: {', '.join(worse)}"] if worse else []
        return "breach", "; ".join(reasons)
    undecided = " ".join(["not decided:", *(doubt.message for doubt in doubts)]) if doubts else None
    if why := _damage(run) or undecided or _no_data(run, policy) or _in_doubt(checks):
        return "insufficient", why
    return "pass", _why_pass(run, policy)


def _in_doubt(checks: tuple[Check, ...] | None) -> str | None:
    """Why it cannot pass against the baseline though nothing breaches, if it cannot."""
    if checks == ():
        return "no alert breaches, but the baseline knows nothing to hold the run against"
    unclear = [check.why for check in checks or () if check.reading == "insufficient"]
    return f"not decided against the baseline: {unclear[0]}" if unclear else None


def _why_pass(run: RunAudit, policy: Policy) -> str:
    usual = policy.fail_on == "critical" and run.verdict.name != "critical"
    if run.verdict.name == "healthy" or usual:
        return run.verdict.why
    where = f" ({scope})" if (scope := policy.gate.describe()) else ""
    return f"no alert at {policy.fail_on} or above fires{where}; {run.verdict.why}"


def _no_steps(run: RunAudit, policy: Policy) -> str | None:
    """Why there is no step to look at, if there is none."""
    if not run.steps:
        return run.verdict.why
    first, last = policy.gate.steps(run.steps[-1])
    if any(first <= step <= last for step in run.steps):
        return None
    return f"no step from {first} to {last} could be judged; the last one is {run.steps[-1]}"


def _no_data(run: RunAudit, policy: Policy) -> str | None:
    """Why the rules that count have said nothing, if they have not."""
    scope = policy.gate
    if not scope.rules and run.verdict.name == "insufficient":
        return run.verdict.why
    able = [rule for rule in policy.rules if policy.can_fail(rule.name, rule.severity)]
    telling = [rule for rule in able if rule.metric not in ON_THE_DATA]
    counted = able if scope.rules else telling or able
    never = run.monitor.rule_engine.never_judged()
    if all(rule.name in never for rule in counted):
        return f"none of the rules that count ever had data: {', '.join(r.name for r in counted)}"
    if not scope.is_ranged:
        return None
    first, last = scope.steps(run.steps[-1])
    rows = run.monitor.timeline.frame.filter(pl.col("step").is_between(first, last))
    if all(rows[rule.metric].null_count() == len(rows) for rule in counted):
        return f"no metric of a rule that counts is known at steps {first} to {last}"
    return None


def _damage(run: RunAudit) -> str | None:
    if not is_damaged(run.status):
        return None
    sentences = describe_data(run.status)
    more = f" (and {len(sentences) - 1} more; see mmhealth audit)" if len(sentences) > 1 else ""
    return f"no alert breaches, but data are damaged: {sentences[0]}{more}"
