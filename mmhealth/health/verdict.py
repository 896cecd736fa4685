"""The verdict on a run: what a header, a gate and an audit begin with."""

from dataclasses import dataclass, field
from typing import Literal

from mmhealth.health.alerts import SEVERITIES, Alert
from mmhealth.health.monitor import Monitor

VerdictName = Literal["healthy", "warning", "critical", "insufficient"]


@dataclass(frozen=True, slots=True)
class FailureMode:
    """A named cause and the alerts that point to it."""

    name: str
    severity: str
    rules: tuple[str, ...]
    first_step: int
    active: bool
    """One of its alerts has not resolved."""
    fixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a run at a step."""

    name: VerdictName
    why: str
    step: int | None
    failure_modes: tuple[FailureMode, ...] = field(default=())


def judge_run(monitor: Monitor) -> Verdict:
    """The verdict on what a monitor has read so far.

    *critical* or *warning*: an alert of that severity fires and has not resolved; a critical alert
    that has resolved leaves a warning. *healthy*: rules had data and nothing of the kind.
    *insufficient*: no step could be judged, or no rule but the two on the data themselves ever had
    data.
    """
    frame = monitor.timeline.frame
    standing = [alert for alert in monitor.alerts if alert.state != "superseded"]
    modes = _failure_modes(standing)
    if frame.is_empty():
        return Verdict("insufficient", "no step is complete yet", None, modes)
    step = int(frame["step"][-1])
    metrics = {r.metric for r in monitor.policy.rules if r.metric not in ("nonfinite", "data_gap")}
    informed = [name for name in sorted(metrics) if frame[name].null_count() < len(frame)]
    firing = [alert for alert in standing if alert.state == "firing"]
    worst = max((SEVERITIES.index(alert.severity) for alert in firing), default=0)
    if worst == SEVERITIES.index("critical"):
        return Verdict("critical", _name(firing, "critical"), step, modes)
    if not informed:
        why = "no metric of the policy could be computed from what is logged"
        return Verdict("insufficient", why, step, modes)
    if worst == SEVERITIES.index("warning"):
        return Verdict("warning", _name(firing, "warning"), step, modes)
    if resolved := [a for a in standing if a.state == "resolved" and a.severity == "critical"]:
        why = f"critical alerts fired and resolved: {_list_rules(resolved)}"
        return Verdict("warning", why, step, modes)
    return Verdict("healthy", f"no alert fires at step {step}", step, modes)


def _failure_modes(alerts: list[Alert]) -> tuple[FailureMode, ...]:
    modes = []
    for name in dict.fromkeys(alert.failure_mode for alert in alerts if alert.failure_mode):
        own = [alert for alert in alerts if alert.failure_mode == name]
        severity = max((alert.severity for alert in own), key=SEVERITIES.index)
        modes.append(
            FailureMode(
                name=name,
                severity=severity,
                rules=tuple(dict.fromkeys(alert.rule for alert in own)),
                first_step=min(alert.step for alert in own),
                active=any(alert.state == "firing" for alert in own),
                fixes=tuple(dict.fromkeys(alert.fix for alert in own if alert.fix)),
            )
        )
    return tuple(sorted(modes, key=lambda m: (-SEVERITIES.index(m.severity), m.first_step)))


def _name(alerts: list[Alert], severity: str) -> str:
    return f"firing: {_list_rules([a for a in alerts if a.severity == severity])}"


def _list_rules(alerts: list[Alert]) -> str:
    return ", ".join(dict.fromkeys(f"{alert.rule} (since step {alert.step})" for alert in alerts))
