"""Alerts in figures: the line at which a rule fires, and a mark where it fired."""

from typing import Any

import polars as pl

from mmhealth.figure_runs import RunView
from mmhealth.figure_style import PALETTES, Theme, safe_text
from mmhealth.health import Alert, Rule

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
    for severity in dict.fromkeys(alert.severity for alert in alerts):
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
                "marker": {
                    "symbol": _SYMBOLS[severity],
                    "size": 12,
                    "color": colours[severity],
                    "line": {"width": 1.5, "color": palette.paper},
                },
            }
        )
    return marks


def _describe(run: RunView, alert: Alert) -> str:
    parts = [safe_text(f"{run.name}, {alert.severity}: {alert.message}")]
    parts += [
        safe_text(text) for text in (alert.meaning, alert.fix and f"Fix: {alert.fix}") if text
    ]
    return "<br>".join(parts)


def threshold_line(
    rule: Rule, theme: Theme, suffix: str
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A line at a rule's fixed threshold, and its words."""
    value = rule.below if rule.below is not None else rule.above
    if value is None or isinstance(value, str):
        return None
    palette = PALETTES[theme]
    colour = palette.critical if rule.severity == "critical" else palette.warning
    side = "below" if rule.below is not None else "above"
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
        "layer": "between",
    }
    words = {
        "text": f"alert {side} {number}",
        "showarrow": False,
        "xref": "paper",
        "x": 0.01,
        "xanchor": "left",
        "yref": f"y{suffix}",
        "y": value,
        "yanchor": "bottom",
        "font": {"color": colour, "size": 11},
    }
    return shape, words
