"""Outcomes of experiments: one row an arm, seeds as dots or cells with their mean."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from mmhealth.figures.style import (
    MARGIN,
    PALETTES,
    Theme,
    axis,
    empty_figure,
    make_figure,
    run_colour,
    safe_text,
    translucent,
)

_SMALL = "<br><span style='font-size:11px'>{}</span>"


def outcomes_figure(
    arms: Mapping[str, Mapping[int, float]], *, title: str, theme: Theme = "light"
) -> go.Figure:
    """A share for each arm: seeds as small dots, their mean as a bar. ``arms``: name to seeds."""
    known = {name: seeds for name, seeds in arms.items() if seeds}
    if not known:
        return empty_figure("insufficient data: no run has a result", theme)
    rows = {name: place for place, name in enumerate(known)}
    colour = run_colour(theme, 0)
    dots = [(seed, value, rows[n]) for n, seeds in known.items() for seed, value in seeds.items()]
    seeds = {
        "type": "scatter",
        "mode": "markers",
        "name": "one seed",
        "x": [value for _, value, _ in dots],
        "y": [row for _, _, row in dots],
        "text": [f"seed {seed}" for seed, _, _ in dots],
        "hovertemplate": "%{text}: %{x:.1%}<extra></extra>",
        "cliponaxis": False,
        "marker": {"size": 9, "color": translucent(colour, 0.45)},
    }
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean",
        "x": [fmean(seeds.values()) for seeds in known.values()],
        "y": list(rows.values()),
        "hovertemplate": "mean: %{x:.1%}<extra></extra>",
        "cliponaxis": False,
        "marker": {
            "symbol": "line-ns",
            "size": 20,
            "line": {"width": 3, "color": PALETTES[theme].text},
        },
    }
    y_axis = axis(
        theme,
        tickmode="array",
        tickvals=list(rows.values()),
        ticktext=[safe_text(name, 18) for name in rows],
        range=[len(rows) - 0.4, -0.6],
        fixedrange=True,
    )
    x_axis = axis(theme, title=title, tickformat=".0%", rangemode="tozero")
    return make_figure([seeds, means], theme, xaxis=x_axis, yaxis=y_axis, margin=MARGIN | {"r": 24})


def regimes_figure(
    regimes: Mapping[str, Sequence[Mapping[int, float]]],
    horizons: Sequence[int],
    *,
    theme: Theme = "light",
) -> go.Figure:
    """Success by regime (rows) and evaluation horizon (columns): mean and range over seeds."""
    known = {name: cells for name, cells in regimes.items() if all(cells)}
    if not known:
        return empty_figure("insufficient data: no run has a result", theme)
    palette = PALETTES[theme]
    means = [[fmean(cell.values()) for cell in cells] for cells in known.values()]
    words = [
        [
            f"{fmean(cell.values()):.0%}" + (_SMALL.format(_range(cell)) if len(cell) > 1 else "")
            for cell in cells
        ]
        for cells in known.values()
    ]
    hovers = [
        ["<br>".join(f"seed {s}: {v:.1%}" for s, v in sorted(cell.items())) for cell in cells]
        for cells in known.values()
    ]
    highest = max(max(row) for row in means)
    heat: dict[str, Any] = {
        "type": "heatmap",
        "x": [str(horizon) for horizon in horizons],
        "y": list(range(len(known))),
        "z": means,
        "text": words,
        "texttemplate": "%{text}",
        "textfont": {"size": 14, "color": palette.text},
        "customdata": hovers,
        "hovertemplate": "evaluated at %{x} turns<br>%{customdata}<extra></extra>",
        "zmin": 0,
        "zmax": max(highest, 0.01),
        "colorscale": [[0, palette.low], [1, palette.high]],
        "showscale": False,
        "xgap": 4,
        "ygap": 4,
    }
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(known))),
        "ticktext": [safe_text(name, 14) for name in known],
    }
    y_axis = axis(theme, range=[len(known) - 0.5, -0.5], showgrid=False, fixedrange=True)
    x_axis = axis(
        theme, title="evaluated at (turns)", type="category", showgrid=False, fixedrange=True
    )
    return make_figure([heat], theme, dragmode=False, xaxis=x_axis, yaxis=y_axis | ticks)


def _range(cell: Mapping[int, float]) -> str:
    return f"{100 * min(cell.values()):.0f}–{100 * max(cell.values()):.0f}"
