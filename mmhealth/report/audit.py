"""The audit: everything that can be said about one or several runs, for any renderer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmhealth.health import Alert, Monitor, Policy, Verdict, judge_run
from mmhealth.health.alerts import RuleState
from mmhealth.health.diagnosis import Diagnosis, diagnose
from mmhealth.health.forecast import Forecast, forecast_run
from mmhealth.health.verdict import VerdictName
from mmhealth.place import RunPlace
from mmhealth.report.evidence import StepEvidence, gather_evidence
from mmhealth.report.heldout import HeldOut, held_out
from mmhealth.report.horizons import Horizons, collect_horizons
from mmhealth.report.metrics import MetricSummary, summarise_metrics
from mmhealth.runlog import Run, RunStatus

GRAVITY: tuple[VerdictName, ...] = ("healthy", "insufficient", "warning", "critical")
"""Verdicts, the gravest last."""


@dataclass(frozen=True)
class RunAudit:
    """What can be said about one run."""

    label: str
    """Name of the run; its path where several runs have the same name."""
    monitor: Monitor
    verdict: Verdict
    status: RunStatus
    metrics: tuple[MetricSummary, ...]
    alerts: tuple[Alert, ...]
    """In the order in which they fired."""
    rules: dict[str, RuleState]
    """Where each rule of the policy stands."""
    held_out: HeldOut
    forecasts: tuple[Forecast, ...] = ()
    """Of rules that do not fire: whose metric is on its way across the threshold."""

    @property
    def run(self) -> Run:
        """The run itself."""
        return self.monitor.run

    @property
    def steps(self) -> list[int]:
        """Steps that were judged and that no later attempt hides."""
        return [int(step) for step in self.monitor.timeline.frame["step"]]

    @cached_property
    def evidence(self) -> tuple[StepEvidence, ...]:
        """Blame and what-if at the steps that matter; looked for when first asked for."""
        return gather_evidence(self.monitor)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The failure mode that the log as a whole speaks for; looked for when first asked for."""
        return diagnose(self.monitor)

    @property
    def standing(self) -> list[Alert]:
        """Alerts that no later attempt hides."""
        return [alert for alert in self.alerts if alert.state != "superseded"]


@dataclass(frozen=True, slots=True)
class Audit:
    """One or several runs, judged by one policy."""

    policy: Policy
    runs: tuple[RunAudit, ...]
    horizons: Horizons

    @property
    def verdict(self) -> VerdictName:
        """The gravest verdict among the runs."""
        return max((run.verdict.name for run in self.runs), key=GRAVITY.index)


def audit_runs(monitors: Sequence[Monitor]) -> Audit:
    """Audit runs, at least one, that are judged by the same policy.

    Polls each monitor once, so it may be fresh. Raises ValueError for no run.
    """
    if not monitors:
        raise ValueError("an audit needs at least one run")
    for monitor in monitors:
        monitor.poll()
    labels = label_runs([(monitor.run.name, monitor.run.path) for monitor in monitors])
    runs = tuple(_audit_run(*pair) for pair in zip(labels, monitors, strict=True))
    horizons = collect_horizons([(audit.label, audit.monitor) for audit in runs])
    return Audit(monitors[0].policy, runs, horizons)


def label_runs(runs: Sequence[tuple[str, RunPlace]]) -> list[str]:
    """One label for each (name, path): the name where no other run has it, else the path."""
    times = Counter(name for name, _ in runs)
    return [name if times[name] == 1 else str(path) for name, path in runs]


def _audit_run(label: str, monitor: Monitor) -> RunAudit:
    return RunAudit(
        label=label,
        monitor=monitor,
        verdict=judge_run(monitor),
        status=monitor.run.status(),
        metrics=summarise_metrics(monitor.timeline),
        alerts=tuple(monitor.alerts),
        rules=monitor.rule_engine.states(),
        held_out=held_out(monitor.run, monitor.alerts),
        forecasts=forecast_run(monitor),
    )
