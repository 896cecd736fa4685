"""The gate: whether runs are fit to go on with, by the policy's ``fail_on``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmhealth.errors import RunError
from mmhealth.health import Alert, Monitor, Policy
from mmhealth.health.alerts import SEVERITIES, Severity
from mmhealth.report.audit import RunAudit, audit_runs
from mmhealth.report.dataloss import describe_data, is_damaged

Outcome = Literal["pass", "breach", "insufficient", "unreadable"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "breach": 1, "insufficient": 3, "unreadable": 3}


@dataclass(frozen=True, slots=True)
class RunDecision:
    """The gate's decision on one run."""

    label: str
    path: Path
    outcome: Outcome
    why: str
    breaching: tuple[Alert, ...]
    """Alerts that make it a breach."""
    audit: RunAudit | None
    """None when the run is unreadable."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The decisions on all runs given."""

    policy: Policy
    runs: tuple[RunDecision, ...]

    @property
    def outcome(self) -> Outcome:
        """The decision on all of them: a breach outweighs data that are missing."""
        order: tuple[Outcome, ...] = ("pass", "insufficient", "unreadable", "breach")
        return max((run.outcome for run in self.runs), key=order.index)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 breach, 3 unreadable or insufficient data."""
        return EXIT_CODES[self.outcome]


def gate_runs(paths: Iterable[Path], policy: Policy) -> Gate:
    """Decide on runs, at least one; those that cannot be read come last.

    *breach*: an alert of the severity ``fail_on`` or a graver one has fired and not resolved.
    *insufficient*: nothing of the kind, but no rule had data, or files of the run are damaged, so
    that what they said is not known. *unreadable*: not a run directory, or one that cannot be read.
    """
    monitors: dict[Path, Monitor] = {}
    unreadable: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            monitors[path] = Monitor(path, policy)
            monitors[path].poll()
        except (RunError, PermissionError) as error:
            unreadable[path] = str(error)
    audit = audit_runs(list(monitors.values())) if monitors else None
    decisions = [decide(run, policy) for run in audit.runs] if audit else []
    decisions += [
        RunDecision(str(path), path, "unreadable", why, (), None)
        for path, why in unreadable.items()
    ]
    return Gate(policy, tuple(decisions))


def decide(run: RunAudit, policy: Policy) -> RunDecision:
    """The decision on one run that could be read."""
    breaching = tuple(
        alert
        for alert in run.alerts
        if alert.state == "firing" and reaches(alert.severity, policy.fail_on)
    )
    outcome, why = _outcome(run, breaching, policy)
    return RunDecision(run.label, run.run.path, outcome, why, breaching, run)


def reaches(severity: Severity, least: Severity) -> bool:
    """Whether a severity is ``least`` or graver."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def _outcome(run: RunAudit, breaching: Sequence[Alert], policy: Policy) -> tuple[Outcome, str]:
    if breaching:
        names = ", ".join(dict.fromkeys(f"{a.rule} (since step {a.step})" for a in breaching))
        return "breach", f"firing at {policy.fail_on} or above: {names}"
    if run.verdict.name == "insufficient":
        return "insufficient", run.verdict.why
    if is_damaged(run.status):
        return "insufficient", f"no alert breaches, but data are damaged: {_damage(run)}"
    if policy.fail_on == "critical" or run.verdict.name == "healthy":
        return "pass", run.verdict.why
    return "pass", f"no alert at {policy.fail_on} or above fires; {run.verdict.why}"


def _damage(run: RunAudit) -> str:
    sentences = describe_data(run.status)
    more = f" (and {len(sentences) - 1} more; see mmhealth audit)" if len(sentences) > 1 else ""
    return sentences[0] + more
