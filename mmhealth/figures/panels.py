"""Metrics over steps: panels one below the other, runs over each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from mmhealth.figures.alerts import alert_marks, threshold_lines
from mmhealth.figures.decimation import Window, decimate_window
from mmhealth.figures.interval_band import interval_band, tell_besides
from mmhealth.figures.runs import RunView, partly_empty, why_empty
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
from mmhealth.health import Policy

_HEADING, _BETWEEN = 0.055, 0.035
"""Parts of the height, where there are several panels."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric over steps."""

    metric: str
    title: str | None = None
    dashed: str | None = None
    dash: str = "dash"
    dashed_name: str = "rows in the update"
    percent: bool = False
    axis: dict[str, Any] = field(default_factory=dict)
    band: tuple[str, str] | None = None
    """Columns with the ends of the metric's interval."""
    told: tuple[str, ...] = ()
    """Columns that the hover label names besides."""
    notes_on_top: bool = False
    """Where runs that lack the metric say so: at the upper right, for curves that run low."""
    reference: tuple[float, str] | None = None
    """A value to compare with, and its meaning."""


def timeline_figure(
    runs: Sequence[RunView],
    policy: Policy,
    panels: Sequence[Panel],
    theme: Theme,
    window: Window | None,
) -> go.Figure:
    """Panels one below the other over the same steps."""
    empty = [why_empty(runs, panel.metric) for panel in panels]
    if all(empty):
        return empty_figure(empty[0] or "", theme)
    data: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    named: set[str] = set()
    heading = _HEADING if len(panels) > 1 else 0.0
    height = (1 - _BETWEEN * (len(panels) - 1)) / len(panels) - heading
    for number, panel in enumerate(panels):
        suffix = "" if number == 0 else str(number + 1)
        top = 1 - heading - number * (height + heading + _BETWEEN)
        y_axis = {"domain": [max(top - height, 0), top], "anchor": "x"} | panel.axis
        if panel.percent:
            y_axis = {"range": [0, 1.02], "tickformat": ".0%"} | y_axis
        layout[f"yaxis{suffix}"] = axis(theme, **y_axis)
        for trace in _panel_traces(runs, panel, theme, window):
            trace["yaxis"] = f"y{suffix}"
            if trace.setdefault("showlegend", trace["legendgroup"] not in named):
                named.add(trace["legendgroup"])
            data.append(trace)
        if panel.title and len(panels) > 1:
            notes.append(_heading(panel.title, top, theme))
        if (reason := empty[number]) is not None:
            place = {"y": top - height / 2, "yanchor": "middle", "x": 0.5, "xanchor": "center"}
            notes.append(note(reason, theme) | place)
        else:
            place = {"x": 0.99, "xanchor": "right", "y": top, "yanchor": "top"}
            aside = place if panel.notes_on_top else {}
            notes += [note(reason, theme) | aside for reason in partly_empty(runs, panel.metric)]
            for shape, text in threshold_lines(policy, panel.metric, theme, suffix):
                shapes.append(shape)
                notes.append(text)
            if panel.reference is not None:
                line_shape, words = _reference(*panel.reference, theme, suffix)
                references.append(line_shape)
                notes.append(words)
    layout["xaxis"] = step_axis(runs, theme) | {"anchor": f"y{len(panels)}".removesuffix("1")}
    if shapes:
        layout["margin"] = MARGIN | {"r": LINE_MARGIN}
    return make_figure(data, theme, shapes=shapes + references, annotations=notes, **layout)


def _panel_traces(
    runs: Sequence[RunView], panel: Panel, theme: Theme, window: Window | None
) -> list[dict[str, Any]]:
    data = []
    for run in runs:
        colour = run_colour(theme, run.number)
        if panel.dashed and not _same(run, panel.metric, panel.dashed):
            trace = line(run, panel.dashed, translucent(colour, 0.75), panel.dash, window)
            if trace is not None:
                trace["line"]["width"] = 1.3
                name = f"{run.name}: {panel.dashed_name}"
                words = {"name": safe_text(name, 60), "legendgroup": name, "legendrank": 1100}
                data.append(trace | words)
        if (trace := line(run, panel.metric, colour, "solid", window)) is not None:
            if panel.percent:
                trace["hovertemplate"] = hover(run, panel.metric, ".1%")
            if panel.band:
                data.append(interval_band(run, panel.band, translucent(colour, 0.16), window))
            if panel.band or panel.told:
                tell_besides(trace, run, [*(panel.band or ()), *panel.told])
            data.append(trace)
    return data + [
        marks for run in runs for marks in alert_marks(run, panel.metric, theme) if marks
    ]


def line(
    run: RunView, metric: str, colour: str, dash: str, window: Window | None
) -> dict[str, Any] | None:
    """A metric as a `curve`. None without data."""
    if metric not in run.timeline.columns or run.timeline[metric].null_count() == len(run.timeline):
        return None
    steps, values = run.timeline["step"], run.timeline[metric]
    trace = curve(run, steps, values, colour=colour, dash=dash, window=window)
    return trace | {"hovertemplate": hover(run, metric, ".4~g")}


def curve(
    run: RunView,
    x: pl.Series,
    y: pl.Series,
    *,
    colour: str,
    dash: str = "solid",
    window: Window | None,
) -> dict[str, Any]:
    """Values of a run over steps as a line with gaps where they are null; lone points are dots."""
    steps, values = x.to_numpy(), y.cast(pl.Float64).to_numpy()
    kept = decimate_window(steps, values, window)
    values = np.where(np.isfinite(values[kept]), values[kept], np.nan)
    known = np.concatenate(([False], np.isfinite(values), [False]))
    lone = known[1:-1] & ~known[:-2] & ~known[2:]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": safe_text(run.name, 40),
        "legendgroup": run.name,
        "x": steps[kept],
        "y": values,
        "line": {"color": colour, "width": 2, "dash": dash},
        "connectgaps": False,
    }
    if lone.any():
        size = np.where(lone, 6, 0)
        trace |= {"mode": "lines+markers", "marker": {"size": size, "color": colour}}
    return trace


def hover(run: RunView, metric: str, number_format: str) -> str:
    """What a point of a line says of itself."""
    value = f"%{{y:{number_format}}}"
    return f"{safe_text(run.name)}<br>step %{{x}}: {metric} {value}<extra></extra>"


def step_axis(runs: Sequence[RunView], theme: Theme) -> dict[str, Any]:
    """The x axis of everything over steps."""
    frames = [run.timeline for run in runs]
    frames += [run.held_out.frame for run in runs if run.held_out is not None]
    ends = [frame["step"][i] for frame in frames if len(frame) for i in (0, -1)]
    first, last = min(ends), max(ends)
    more: dict[str, Any] = {"dtick": 1} if last - first < 8 else {}
    if first < last:
        more["autorangeoptions"] = {"minallowed": first, "maxallowed": last}
    return axis(theme, title="step", tickformat="d", showgrid=False, **more)


def _reference(
    value: float, meaning: str, theme: Theme, suffix: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A thin line across a panel, and words on it at the right, where curves have room."""
    palette = PALETTES[theme]
    place = {"xref": "paper", "yref": f"y{suffix}"}
    shape = {"type": "line", "x0": 0, "x1": 1, "y0": value, "y1": value, "layer": "below"}
    look = {"line": {"color": palette.muted, "width": 1, "dash": "dash"}}
    words = note(meaning, theme) | place | {"y": value, "x": 1, "xanchor": "right"}
    return shape | place | look, words


def _same(run: RunView, metric: str, other: str) -> bool:
    frame = run.timeline
    return other not in frame.columns or frame[metric].equals(frame[other], null_equal=True)


def _heading(text: str, top: float, theme: Theme) -> dict[str, Any]:
    """Words above a panel."""
    place = {"x": 0, "y": top, "yanchor": "bottom"}
    return note(text, theme) | place | {"font": {"color": PALETTES[theme].text, "size": 12}}
