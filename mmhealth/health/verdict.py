"""The verdict on a run: what a header, a gate and an audit begin with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmhealth.health.alerts import SEVERITIES, Alert
from mmhealth.health.monitor import Monitor
from mmhealth.health.rules import Rule

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


ON_THE_DATA = ("nonfinite", "data_gap")
"""Metrics of the data themselves: alone they do not tell how training goes."""


def judge_run(monitor: Monitor) -> Verdict:
    """The verdict on what a monitor has read so far.

    *critical* or *warning*: an alert of that severity fires and has not resolved; a critical alert
    that has resolved leaves a warning. *healthy*: a rule had data and nothing of the kind; where no
    rule on an ESS or Gini ever had any, ``why`` names them, as it does rules that their intervals
    leave undecided. *insufficient*: no step could be judged, or no rule but those on the data
    themselves ever had data.
    """
    frame = monitor.timeline.frame
    standing = [alert for alert in monitor.alerts if alert.state != "superseded"]
    modes = _failure_modes(standing)
    if frame.is_empty():
        return Verdict("insufficient", "no step is complete yet", None, modes)
    step = int(frame["step"][-1])
    firing = [alert for alert in standing if alert.state == "firing"]
    worst = max((SEVERITIES.index(alert.severity) for alert in firing), default=0)
    if worst == SEVERITIES.index("critical"):
        return Verdict("critical", _name(firing, "critical"), step, modes)
    never = monitor.rule_engine.never_judged()
    rules = [rule for rule in monitor.policy.rules if rule.metric not in ON_THE_DATA]
    if all(rule.name in never for rule in rules):
        return Verdict("insufficient", _why_insufficient(rules, monitor), step, modes)
    if worst == SEVERITIES.index("warning"):
        return Verdict("warning", _name(firing, "warning"), step, modes)
    if resolved := [a for a in standing if a.state == "resolved" and a.severity == "critical"]:
        why = f"critical alerts fired and resolved: {_list_rules(resolved)}"
        return Verdict("warning", why, step, modes)
    why = f"no alert fires at step {step}"
    estimator = [rule.name for rule in rules if rule.metric.startswith(("ess_", "gini"))]
    if estimator and all(name in never for name in estimator):
        why += f"; never judged for want of data: {', '.join(estimator)}"
    if undecided := [doubt.rule for doubt in monitor.rule_engine.undecided()]:
        why += f"; not decided by their intervals: {', '.join(undecided)}"
    return Verdict("healthy", why, step, modes)


def _why_insufficient(rules: Sequence[Rule], monitor: Monitor) -> str:
    """Why no rule ever had data, though there are steps."""
    frame = monitor.timeline.frame
    informed = [rule for rule in rules if frame[rule.metric].null_count() < len(frame)]
    if not informed:
        return "no metric of the policy could be computed from what is logged"
    if doubts := monitor.rule_engine.undecided():
        return f"no rule could be judged yet: {doubts[0].message}"
    names = ", ".join(rule.name for rule in informed)
    rows, needed = max(frame["n"].to_list()), min(rule.min_rows for rule in informed)
    few = f" (steps have up to {rows} rows, min_rows asks for {needed})" if rows < needed else ""
    return f"no rule could be judged yet: too few rows or steps for {names}{few}"


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
