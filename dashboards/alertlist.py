"""The list of alerts: one entry for each rule and run, the gravest that still fires first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from mmhealth.figures import RunView
from mmhealth.health import Alert
from mmhealth.health.alerts import SEVERITIES, describe_interval


@dataclass(frozen=True, slots=True)
class AlertEntry:
    """All alerts of one rule in one run, the latest in full."""

    run: RunView
    latest: Alert
    earlier: tuple[Alert, ...]

    @property
    def firing(self) -> bool:
        """Whether it has not resolved."""
        return self.latest.state == "firing"


def collect_entries(runs: Sequence[RunView]) -> list[AlertEntry]:
    """Entries in the order in which they are shown; superseded alerts are left out."""
    entries = []
    for run in runs:
        standing = [alert for alert in run.alerts if alert.state != "superseded"]
        for rule in dict.fromkeys(alert.rule for alert in standing):
            own = [alert for alert in standing if alert.rule == rule]
            entries.append(AlertEntry(run, own[-1], tuple(own[:-1])))
    return sorted(
        entries,
        key=lambda e: (not e.firing, -SEVERITIES.index(e.latest.severity), e.latest.step),
    )


def summarize(entries: Sequence[AlertEntry]) -> str:
    """How many rules fire, for the heading and for screen readers."""
    firing = [entry for entry in entries if entry.firing]
    if not firing:
        return "none fires"
    counts = [
        f"{count} {severity}"
        for severity in reversed(SEVERITIES)
        if (count := sum(e.latest.severity == severity for e in firing))
    ]
    return f"{', '.join(counts)} firing"


def announce(entries: Sequence[AlertEntry]) -> str:
    """The newest alert that fires, for the live region."""
    firing = [entry for entry in entries if entry.firing]
    if not firing:
        return ""
    newest = max(firing, key=lambda entry: entry.latest.step)
    alert = newest.latest
    return f"{newest.run.name}: {alert.severity} alert {alert.rule} since step {alert.step}"


def render_entries(entries: Sequence[AlertEntry]) -> list[Any]:
    """List items."""
    if not entries:
        return [html.Li("No alert has fired.", className="alert-none")]
    return [_render(entry) for entry in entries]


def _render(entry: AlertEntry) -> Any:
    alert = entry.latest
    state = "firing" if entry.firing else "resolved"
    words = (
        f"Firing since step {alert.step}"
        if entry.firing
        else f"Resolved at step {alert.resolved_step}, fired at step {alert.step}"
    )
    within = "" if alert.interval is None else f" ({describe_interval(alert.interval)})"
    facts = (
        f"{words}. {alert.metric} was {alert.value:.3g}{within} against {alert.threshold:.3g} "
        f"over {alert.rows:,} rows; worst {alert.worst:.3g}."
    )
    if alert.partial:
        facts += " The step was incomplete."
    parts = [
        html.Div(
            [
                html.Span(alert.severity, className=f"severity {alert.severity}"),
                html.Span(alert.rule, className="rule"),
                html.Span(
                    [html.Span(className=f"dot run-{entry.run.number % 6}"), entry.run.name],
                    className="run-name",
                ),
            ],
            className="alert-head",
        ),
        html.P(facts, className="facts"),
        html.P(alert.meaning, className="meaning"),
    ]
    if alert.fix and entry.firing:
        parts.append(html.P([html.B("Fix: "), alert.fix], className="fix"))
    if entry.earlier:
        spans = [f"{a.step} to {a.resolved_step}" for a in entry.earlier[-3:]]
        dots = "…, " if len(entry.earlier) > 3 else ""
        times = "once" if len(entry.earlier) == 1 else f"{len(entry.earlier)} times"
        text = f"Fired {times} before: steps {dots}{', '.join(spans)}."
        parts.append(html.P(text, className="facts"))
    return html.Li(parts, className=f"alert {state} {alert.severity}")
