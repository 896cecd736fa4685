"""A run at a glance, for a notebook: verdict, reason, and the course of what matters."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from mmhealth.figures.decimation import decimate
from mmhealth.health import Alert, Monitor, judge_run
from mmhealth.health.timeline import METRICS
from mmhealth.report.metrics import judged_metrics
from mmhealth.report.sparkline import sparkline
from mmhealth.report.words import capital, listed, name_metric, show_value

_COLOURS = {
    "healthy": "#1f7a45",
    "warning": "#946000",
    "critical": "#c4322a",
    "insufficient": "#75529b",
}
"""White text stands out from each, and each from a white and from a black page."""
_MARKS = {"critical": "#e0564d", "warning": "#c98a1b", "info": "#7890a8"}
_WIDTH, _HEIGHT = 220, 28


def glance_html(monitor: Monitor) -> str:
    """What a monitor has read as HTML that takes on the colours of the page; no script."""
    verdict = judge_run(monitor)
    colour = _COLOURS[verdict.name]
    at = "" if verdict.step is None else f", {_steps(monitor)}"
    rows = "".join(_row(monitor, name) for name in _known(monitor))
    unknown = _unknown(monitor)
    return (
        '<div style="color:inherit;font:14px/1.5 system-ui,sans-serif;max-width:46rem">'
        f'<div><span style="background:{colour};color:#fff;border-radius:4px;padding:1px 8px;'
        f'font-weight:600">{verdict.name}</span> <b>{escape(monitor.run.name)}</b>{at}</div>'
        f'<div style="margin:4px 0">{escape(capital(verdict.why))}.</div>'
        '<table style="border-collapse:collapse;margin:0;font-size:13px;color:inherit;'
        f'background:none">{rows}'
        "</table>"
        + (f'<div style="opacity:.75;font-size:12px">{escape(unknown)}</div>' if unknown else "")
        + "</div>"
    )


def glance_text(monitor: Monitor) -> str:
    """The same as text, a line a metric."""
    verdict = judge_run(monitor)
    at = "" if verdict.step is None else f", {_steps(monitor)}"
    lines = [f"{verdict.name}: {monitor.run.name}{at}", f"{capital(verdict.why)}."]
    names = _known(monitor)
    width = max(map(len, names), default=0)
    for name in names:
        values = _values(monitor, name)
        lines.append(f"  {name:<{width}}  {sparkline(values, 32)}  {_last(name, values)}")
    return "\n".join([*lines, *filter(None, [_unknown(monitor)])])


def _steps(monitor: Monitor) -> str:
    steps = monitor.timeline.frame["step"]
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def _known(monitor: Monitor) -> list[str]:
    return [name for name in _main(monitor) if any(v is not None for v in _values(monitor, name))]


def _main(monitor: Monitor) -> list[str]:
    return judged_metrics(monitor.policy, METRICS)


def _unknown(monitor: Monitor) -> str:
    if monitor.timeline.frame.is_empty():
        return ""
    known = _known(monitor)
    missing = [name for name in _main(monitor) if name not in known]
    return f"Insufficient data: {listed(missing)}." if missing else ""


def _values(monitor: Monitor, name: str) -> list[float | None]:
    return list(monitor.timeline.frame[name].to_list())


def _last(name: str, values: Sequence[float | None]) -> str:
    return "insufficient data" if values[-1] is None else show_value(name, values[-1])


def _row(monitor: Monitor, name: str) -> str:
    values = _values(monitor, name)
    alerts = [a for a in monitor.alerts if a.metric == name and a.state != "superseded"]
    steps = [int(step) for step in monitor.timeline.frame["step"]]
    style = "padding:1px 12px 1px 0;text-align:left;border:0;white-space:nowrap;background:none"
    return (
        f'<tr style="background:none"><td style="{style}" title="{escape(name)}">'
        f"{escape(capital(name_metric(name).removeprefix('the ')))}</td>"
        f'<td style="{style}">{_svg(name, steps, values, alerts)}</td>'
        f'<td style="{style};font-variant-numeric:tabular-nums">{_last(name, values)}</td></tr>'
    )


def _svg(
    name: str, steps: Sequence[int], values: Sequence[float | None], alerts: Sequence[Alert]
) -> str:
    """The course as a line with gaps where nothing is known; alerts as vertical lines."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    first, last = steps[0], steps[-1]

    def x(step: float) -> float:
        return round(3 + (_WIDTH - 6) * (step - first) / ((last - first) or 1), 1)

    def y(value: float) -> float:
        share = (value - low) / span if high > low else 0.5
        return round(3 + (_HEIGHT - 6) * (1 - share), 1)

    words = f"{name_metric(name)}: lowest {show_value(name, low)}, highest {show_value(name, high)}"
    words += "".join(f"; {alert.rule} fired at step {alert.step}" for alert in alerts)
    parts = [f"<title>{escape(words)}</title>"]
    for alert in alerts:
        at = x(alert.step)
        parts.append(
            f'<path d="M{at} 0V{_HEIGHT}" stroke="{_MARKS[alert.severity]}" '
            'stroke-width="1.5" stroke-dasharray="3 2"/>'
        )
    kept = decimate(np.array(values, np.float64), 2 * _WIDTH).tolist()
    for piece in _pieces([(steps[i], values[i]) for i in kept]):
        points = [f"{x(step)} {y(value)}" for step, value in piece]
        path = f"M{points[0]}h.01" if len(points) == 1 else "M" + "L".join(points)
        parts.append(
            f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.3" '
            'stroke-linecap="round" stroke-linejoin="round"/>'
        )
    return (
        f'<svg role="img" aria-label="{escape(words)}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" style="display:block">{"".join(parts)}</svg>'
    )


def _pieces(points: Sequence[tuple[int, float | None]]) -> Iterator[list[tuple[int, float]]]:
    """Runs of known values."""
    piece: list[tuple[int, float]] = []
    for step, value in points:
        if value is not None:
            piece.append((step, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece
