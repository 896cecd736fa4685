"""What a fleet view says of one run: small enough to travel between processes."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmhealth.fleet.headroom import WorstMetric, worst_metric
from mmhealth.health import Alert, Monitor, judge_run
from mmhealth.health.alerts import AlertState, Severity
from mmhealth.health.forecast import Forecast, forecast_run
from mmhealth.health.verdict import VerdictName
from mmhealth.place import RunPlace
from mmhealth.report.compare import settings
from mmhealth.report.heldout import HeldOut, held_out
from mmhealth.runlog import Run, recording_attempts

RunVerdict = Literal["healthy", "insufficient", "unreadable", "warning", "critical"]
"""A verdict, or ``unreadable``."""
VERDICTS: tuple[RunVerdict, ...] = ("critical", "unreadable", "warning", "insufficient", "healthy")
"""The gravest first."""
State = Literal["recording", "finished", "silent", "unknown"]
"""``finished``: its recorders were closed; ``recording``: a recorder holds a file of it, or has
committed within `SILENT_S`; ``silent``: neither."""
SILENT_S = 900.0
"""Seconds without a commit after which a run that nobody closed is silent."""


@dataclass(frozen=True, slots=True)
class AlertLine:
    """An alert that no later attempt hides."""

    rule: str
    severity: Severity
    state: AlertState
    step: int
    resolved_step: int | None
    failure_mode: str


@dataclass(frozen=True, slots=True)
class Lead:
    """How long before held-out success stalled the first alert came."""

    alert_step: int
    """Step of the first alert that is on an effective sample size, or critical."""
    stall_step: int

    @property
    def steps(self) -> int:
        """Positive when the alert came first."""
        return self.stall_step - self.alert_step


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run of a fleet. What could not be read has the verdict ``unreadable`` and its error."""

    path: str
    name: str
    label: str = ""
    """The name, or the path where several runs of the fleet have the same name."""
    id: str | None = None
    verdict: RunVerdict
    why: str
    """Why, in words; of an unreadable run the error."""
    worst: WorstMetric | None = None
    forecast: Forecast | None = None
    """The earliest crossing that a trend leads to, of rules that do not fire."""
    alerts: tuple[AlertLine, ...] = ()
    failure_modes: tuple[str, ...] = ()
    """Of alerts that fire, the gravest first."""
    lead: Lead | None = None
    lead_reason: str = ""
    """Why there is no lead."""
    step: int | None = None
    """The last step judged."""
    steps: int = 0
    """How many were."""
    last_commit: float | None = None
    """When a step was last committed, seconds since 1970."""
    state: State = "unknown"
    data_lost: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    """What is known of how it was made, flat."""

    @property
    def firing(self) -> tuple[AlertLine, ...]:
        """Alerts that have not resolved."""
        return tuple(alert for alert in self.alerts if alert.state == "firing")


def summarise_run(monitor: Monitor, *, now: float | None = None) -> RunSummary:
    """Poll a monitor once and say what a fleet view needs; ``now`` in seconds since 1970.

    The log as a whole is not diagnosed: `mmhealth diagnose` does it for a run that deserves it.
    """
    monitor.poll()
    run, verdict, status = monitor.run, judge_run(monitor), monitor.run.status()
    standing = [alert for alert in monitor.alerts if alert.state != "superseded"]
    course = held_out(run, standing)
    lead = _lead(course)
    name = printable(run.name)
    return RunSummary(
        path=str(run.path),
        name=name,
        label=name,
        id=run.id,
        verdict=_as_run_verdict(verdict.name),
        why=verdict.why,
        worst=worst_metric(monitor),
        forecast=min(forecast_run(monitor), key=lambda item: item.steps, default=None),
        alerts=tuple(_line(alert) for alert in standing),
        failure_modes=tuple(mode.name for mode in verdict.failure_modes if mode.active),
        lead=lead,
        lead_reason="" if lead else _why_no_lead(course),
        step=verdict.step,
        steps=len(monitor.timeline.frame),
        last_commit=status.last_commit,
        state=_state(run, status.last_commit, time.time() if now is None else now),
        data_lost=status.data_lost,
        config=settings_of(run),
    )


def unreadable(path: RunPlace, error: Exception) -> RunSummary:
    """The row of a run that cannot be read."""
    name = printable(path.name)
    return RunSummary(
        path=printable(str(path)),
        name=name,
        label=name,
        verdict="unreadable",
        why=printable(str(error)).replace(printable(f"{path}/"), ""),
    )


def settings_of(run: Run) -> dict[str, Any]:
    """What is known of how it was made, flat, in text that can be written anywhere."""
    text = json.dumps(settings(run), ensure_ascii=False).encode("utf-8", "replace")
    return dict(json.loads(text))


def printable(text: str) -> str:
    """The same where what file systems know is no text: ``\\udcff`` for a byte that is none."""
    return text.encode("utf-8", "backslashreplace").decode()


def _as_run_verdict(name: VerdictName) -> RunVerdict:
    return name


def _line(alert: Alert) -> AlertLine:
    return AlertLine(
        alert.rule,
        alert.severity,
        alert.state,
        alert.step,
        alert.resolved_step,
        alert.failure_mode,
    )


def _lead(course: HeldOut) -> Lead | None:
    first = [s for s in (course.first_ess_step, course.first_critical_step) if s is not None]
    if course.stall_step is None or not first:
        return None
    return Lead(min(first), course.stall_step)


def _why_no_lead(course: HeldOut) -> str:
    if course.stall_step is None:
        return str(course.stall_reason)
    return "no alert on an effective sample size, and no critical one, has fired"


def _state(run: Run, last_commit: float | None, now: float) -> State:
    if isinstance(run.path, Path) and recording_attempts(run.path):
        return "recording"
    if run.closed:
        return "finished"
    if last_commit is None:
        return "unknown"
    return "recording" if now - last_commit < SILENT_S else "silent"
