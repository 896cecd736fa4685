"""Held-out success over steps: where learning stalls, and which ESS alerts fired before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from mmhealth.estimators import wilson_interval
from mmhealth.figures.decimation import Window, decimate_window
from mmhealth.figures.panels import curve, step_axis
from mmhealth.figures.runs import RunView
from mmhealth.figures.style import (
    LINE_MARGIN,
    MARGIN,
    PALETTES,
    Theme,
    axis,
    empty_figure,
    make_figure,
    note,
    run_colour,
    safe_text,
    translucent,
)
from mmhealth.health import Alert
from mmhealth.health.heldout import AHEAD_STEPS, MEAN_STEPS, STALL_DELTA, HeldOutCourse

STALL_MEANING = (
    f"Stall: first step after which the {MEAN_STEPS}-step mean of held-out success improves by "
    f"less than {STALL_DELTA:g} over the next {AHEAD_STEPS}."
)
_MOST_NAMED = 3
"""Runs, beyond which the marks are named on hover only."""


def heldout_figure(
    runs: Sequence[RunView], *, theme: Theme = "light", window: Window | None = None
) -> go.Figure:
    """Held-out success, its 95 % Wilson band and 15-step mean, the stall, and the ESS alerts."""
    courses = [(run, run.held_out) for run in runs if run.held_out and len(run.held_out.frame)]
    reasons = [
        f"{run.name}: insufficient data: {run.held_out.stall_reason}"
        for run in runs
        if run.held_out and run.held_out.frame.is_empty()
    ]
    if not courses:
        if not runs:
            return empty_figure("no run is chosen", theme)
        return empty_figure("insufficient data: no held-out evaluation is logged", theme)
    several = len({course.eval_horizon for _, course in courses}) > 1
    data = [_band(run, course, theme, window) for run, course in courses]
    for run, course in courses:
        data += _alert_lines(run, theme)
        data += _curves(run, course, several=several, theme=theme, window=window)
    stalls = [
        _stall(run, course, theme) for run, course in courses if course.stall_step is not None
    ]
    data += stalls
    named: set[str] = set()
    for trace in data:
        trace.setdefault("showlegend", trace["name"] not in named)
        if trace["showlegend"]:
            named.add(trace["name"])
    notes, lines = _words(courses, theme) if len(runs) <= _MOST_NAMED else ([], [])
    return make_figure(
        data,
        theme,
        margin=MARGIN | {"r": LINE_MARGIN},
        shapes=lines,
        annotations=[*notes, *(note(reason, theme) | {"y": 0.9} for reason in reasons)],
        xaxis=step_axis(runs, theme),
        yaxis=axis(theme, range=[0, 1.02], tickformat=".0%"),
    )


def _curves(
    run: RunView, course: HeldOutCourse, *, several: bool, theme: Theme, window: Window | None
) -> list[dict[str, Any]]:
    """The rate, thin, and its mean, bold; the latter, where there is one, stands in the legend."""
    colour, frame = run_colour(theme, run.number), course.frame
    at = "" if course.eval_horizon is None else f" at horizon {course.eval_horizon}"
    name = safe_text(f"{run.name}{at}" if several else run.name, 40)
    rate = curve(run, frame["step"], frame["rate"], colour=translucent(colour, 0.5), window=window)
    shown = frame.filter(pl.col("step").is_in(rate["x"].tolist()))
    texts = []
    for episodes, successes in shown.select("episodes", "successes").iter_rows():
        low, high = wilson_interval(successes, episodes)
        texts.append(
            f"{successes:,} of {episodes:,} episodes<br>95 % interval {low:.1%} to {high:.1%}"
        )
    rate["line"]["width"] = 1.2
    words = f"{safe_text(run.name)}<br>step %{{x}}: "
    rate |= {
        "name": name,
        "text": texts,
        "hovertemplate": f"{words}held-out success %{{y:.1%}}{at}<br>%{{text}}<extra></extra>",
    }
    if frame["mean"].null_count() == len(frame):
        return [rate]
    mean = curve(run, frame["step"], frame["mean"], colour=colour, window=window)
    mean["line"]["width"] = 2.5
    mean |= {
        "name": name,
        "hovertemplate": f"{words}{MEAN_STEPS}-step mean %{{y:.1%}}<extra></extra>",
    }
    return [rate | {"showlegend": False}, mean]


def _band(
    run: RunView, course: HeldOutCourse, theme: Theme, window: Window | None
) -> dict[str, Any]:
    frame = course.frame
    steps = frame["step"].to_numpy()
    kept = decimate_window(steps, frame["rate"].to_numpy(), window)
    counts = frame[kept.tolist()].select("successes", "episodes").iter_rows()
    low, high = zip(*(wilson_interval(won, n) for won, n in counts), strict=True)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": safe_text(f"{run.name}: 95 % interval", 40),
        "legendgroup": run.name,
        "showlegend": False,
        "x": np.concatenate([steps[kept], steps[kept][::-1]]),
        "y": np.array([*high, *low[::-1]]),
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": translucent(run_colour(theme, run.number), 0.13),
        "hoverinfo": "skip",
    }


def _ess_alerts(run: RunView) -> list[Alert]:
    """In the order in which they fired."""
    alerts = [a for a in run.alerts if a.metric.startswith("ess_") and a.state != "superseded"]
    return sorted(alerts, key=lambda alert: alert.step)


def _alert_lines(run: RunView, theme: Theme) -> list[dict[str, Any]]:
    """A dotted vertical line where an alert on an ESS fired, the first one strong."""
    lines = []
    for place, alert in enumerate(_ess_alerts(run)):
        heights = np.linspace(0, 1, 9)
        colour = _colour(alert, theme)
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "ESS alert fires",
                "legendgroup": "ESS alert fires",
                "legendrank": 1200,
                "x": np.full(len(heights), alert.step),
                "y": heights,
                "line": {
                    "color": translucent(colour, 0.3 if place else 0.9),
                    "width": 1.2 if place else 1.8,
                    "dash": "dot",
                },
                "hovertemplate": safe_text(f"{run.name}, {alert.severity}: {alert.message}")
                + "<extra></extra>",
            }
        )
    return lines


def _colour(alert: Alert, theme: Theme) -> str:
    palette = PALETTES[theme]
    of_severity = {"critical": palette.critical, "warning": palette.warning, "info": palette.info}
    return of_severity[alert.severity]


def _stall(run: RunView, course: HeldOutCourse, theme: Theme) -> dict[str, Any]:
    step = course.stall_step
    mean = course.frame.filter(pl.col("step") == step)["mean"]
    text = f"{run.name}: learning stalls at step {step}"
    if (alerts := _ess_alerts(run)) and step is not None:
        lag = step - alerts[0].step
        side = "after" if lag >= 0 else "before"
        text += f", {abs(lag)} steps {side} the first ESS alert"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "learning stalls",
        "legendgroup": "learning stalls",
        "legendrank": 1300,
        "x": [step],
        "y": mean.to_list(),
        "text": [f"{safe_text(f'{text}.')}<br>{safe_text(STALL_MEANING)}"],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
        "marker": {
            "symbol": "octagon",
            "size": 14,
            "color": run_colour(theme, run.number),
            "line": {"width": 2, "color": PALETTES[theme].paper},
        },
    }


def _words(
    courses: Sequence[tuple[RunView, HeldOutCourse]], theme: Theme
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Names of each run's first ESS alert and stall, row over row, and lines up to the stalls."""
    marks: dict[tuple[int, float], tuple[str, str]] = {}
    for run, course in courses:
        for alert in _ess_alerts(run)[:1]:
            marks.setdefault((alert.step, 0.0), ("ESS alert fires", _colour(alert, theme)))
        if course.stall_step is not None:
            height = course.frame.filter(pl.col("step") == course.stall_step)["mean"][0]
            mark = ("learning stalls", run_colour(theme, run.number))
            marks.setdefault((course.stall_step, height), mark)
    steps = [step for _, course in courses for step in course.frame["step"]]
    middle = (min(steps) + max(steps)) / 2
    notes, lines = [], []
    for row, ((step, height), (text, colour)) in enumerate(sorted(marks.items())):
        low = 0.02 + 0.1 * row
        notes.append(
            {
                "text": f"{text}, step {step}",
                "showarrow": False,
                "x": step,
                "xanchor": "left" if step < middle else "right",
                "xshift": 4 if step < middle else -4,
                "y": low,
                "yanchor": "bottom",
                "font": {"color": colour, "size": 12},
                "bgcolor": translucent(PALETTES[theme].paper, 0.8),
            }
        )
        if height > low:
            place = {"x0": step, "x1": step, "y0": low, "y1": height, "layer": "below"}
            lines.append({"type": "line", "line": {"color": colour, "width": 1.5}} | place)
    return notes, lines
