"""Alerts in figures: the line at which a rule fires, and a mark where it fired."""

from typing import Any

import polars as pl

from mmhealth.figures.runs import RunView
from mmhealth.figures.style import PALETTES, Theme, safe_text
from mmhealth.health import Alert, Policy, Rule
from mmhealth.health.alerts import SEVERITIES, Severity

_SYMBOLS = {"critical": "diamond", "warning": "triangle-up", "info": "circle"}


def alert_marks(run: RunView, metric: str, theme: Theme) -> list[dict[str, Any]]:
    """A mark where an alert on the metric fired, on the line or where the line would be."""
    alerts = [a for a in run.alerts if a.metric == metric and a.state != "superseded"]
    if not alerts:
        return []
    palette = PALETTES[theme]
    colours = {"critical": palette.critical, "warning": palette.warning, "info": palette.info}
    fired = run.timeline.filter(pl.col("step").is_in([alert.step for alert in alerts]))
    at = dict(zip(fired["step"], fired[metric], strict=True))
    marks = []
    for severity in sorted({alert.severity for alert in alerts}, key=_rank):
        own = [alert for alert in alerts if alert.severity == severity]
        values = [at.get(alert.step) for alert in own]
        marks.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{severity} alert fires",
                "legendgroup": f"{severity} alert fires",
                "x": [alert.step for alert in own],
                "y": [a.value if v is None else v for a, v in zip(own, values, strict=True)],
                "text": [_describe(run, alert) for alert in own],
                "hovertemplate": "%{text}<extra></extra>",
                "cliponaxis": False,
                "legendrank": 1200,
                "marker": {
                    "symbol": _SYMBOLS[severity],
                    "size": 12,
                    "color": colours[severity],
                    "line": {"width": 1.5, "color": palette.paper},
                },
            }
        )
    return marks


def _rank(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def _describe(run: RunView, alert: Alert) -> str:
    parts = [safe_text(f"{run.name}, {alert.severity}: {alert.message}")]
    parts += [
        safe_text(text) for text in (alert.meaning, alert.fix and f"Fix: {alert.fix}") if text
    ]
    return "<br>".join(parts)


Line = tuple[dict[str, Any], dict[str, Any]]
"""A shape and its words."""


def threshold_lines(policy: Policy, metric: str, theme: Theme, suffix: str) -> list[Line]:
    """Lines at the fixed thresholds of a metric's rules; of rules at the same one, the gravest.

    Their words stand in the right margin, where no curve is.
    """
    gravest: dict[tuple[str, float], Rule] = {}
    for rule in policy.rules:
        value = rule.below if rule.below is not None else rule.above
        if rule.metric != metric or value is None or isinstance(value, str):
            continue
        key = ("above" if rule.below is None else "below", float(value))
        other = gravest.get(key)
        if other is None or _rank(rule.severity) > _rank(other.severity):
            gravest[key] = rule
    return [_line(rule, side, value, theme, suffix) for (side, value), rule in gravest.items()]


def _line(rule: Rule, side: str, value: float, theme: Theme, suffix: str) -> Line:
    palette = PALETTES[theme]
    colour = palette.critical if rule.severity == "critical" else palette.warning
    percent = rule.metric.startswith("ess_") or rule.metric.endswith("_share")
    number = f"{100 * value:.3g} %" if percent else f"{value:.3g}"
    shape = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": f"y{suffix}",
        "y0": value,
        "y1": value,
        "line": {"color": colour, "width": 1.2, "dash": "dash"},
        "layer": "above",
    }
    words = {
        "text": f"{'&lt;' if side == 'below' else '&gt;'} {number}",
        "hovertext": safe_text(f"{rule.severity} alert {side} {number}: {rule.name}"),
        "showarrow": False,
        "xref": "paper",
        "x": 1,
        "xanchor": "left",
        "xshift": 2,
        "yref": f"y{suffix}",
        "y": value,
        "yanchor": "middle",
        "font": {"color": colour, "size": 11},
    }
    return shape, words
