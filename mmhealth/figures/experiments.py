"""Figures of experiments: several arms, several seeds each.

Thin lines and small dots are single seeds, bold lines and large marks their mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

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

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """One arm in one panel."""

    name: str
    number: int
    """Which colour the arm has in every figure."""
    seeds: Mapping[int, tuple[Array, Array]]
    """(x, y) of every seed; the same x in all of them for a mean to be drawn."""
    marks: Mapping[int, float] = field(default_factory=dict)
    """An x of every seed at which something happens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmPanel:
    """One quantity over steps."""

    title: str
    """What it is, with its unit."""
    curves: Sequence[Curves]
    percent: bool = False
    line: float | None = None
    """A threshold."""
    line_words: str = ""
    """What it is called, in a few letters."""
    mark_words: str = ""
    """What happens at the marks."""
    mark_symbol: str = "diamond"
    """Of the marks, in Plotly's words."""
    top: float | None = None
    """End of the y axis; None: where the data end."""


def arms_figure(
    panels: Sequence[ArmPanel], *, theme: Theme = "light", x_title: str = "step"
) -> go.Figure:
    """Panels one below the other over the same steps."""
    if not any(curves.seeds for panel in panels for curves in panel.curves):
        return empty_figure("insufficient data: no run has a result", theme)
    data: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    heading, between = 0.1 / len(panels), 0.05
    height = (1 - between * (len(panels) - 1)) / len(panels) - heading
    for number, panel in enumerate(panels):
        suffix = "" if number == 0 else str(number + 1)
        top = 1 - heading - number * (height + heading + between)
        layout[f"yaxis{suffix}"] = axis(
            theme,
            domain=[max(top - height, 0), top],
            anchor="x",
            rangemode="tozero",
            **_y_axis(panel),
        )
        title = {"x": 0, "y": top, "yanchor": "bottom"}
        font = {"font": {"color": PALETTES[theme].text, "size": 13}}
        notes.append(note(panel.title, theme) | title | font)
        for curves in panel.curves:
            for trace in _traces(curves, panel, theme):
                data.append(trace | {"yaxis": f"y{suffix}"})
        if panel.line is not None:
            shape, words = _threshold(panel, theme, suffix)
            shapes.append(shape)
            notes.append(words)
    data.sort(key=lambda trace: trace["mode"] == "markers")
    _name_once(data)
    x_axis = {"anchor": f"y{len(panels)}".removesuffix("1"), "tickformat": "d", "showgrid": False}
    layout["xaxis"] = axis(theme, title=x_title, **x_axis)
    margin = MARGIN | {"r": LINE_MARGIN, "t": 8}
    return make_figure(data, theme, shapes=shapes, annotations=notes, margin=margin, **layout)


def _y_axis(panel: ArmPanel) -> dict[str, Any]:
    style: dict[str, Any] = {"tickformat": ".0%"} if panel.percent else {}
    return style | ({"range": [0, panel.top]} if panel.top is not None else {})


def _traces(curves: Curves, panel: ArmPanel, theme: Theme) -> list[dict[str, Any]]:
    colour = run_colour(theme, curves.number)
    number = ".1%" if panel.percent else ".3~g"
    shared: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": safe_text(curves.name, 40),
        "legendgroup": curves.name,
        "showlegend": False,
    }

    def line(x: Array, y: Array, who: str, width: float, alpha: float) -> dict[str, Any]:
        words = f"{safe_text(curves.name)}, {who}<br>step %{{x}}: %{{y:{number}}}<extra></extra>"
        style = {"color": translucent(colour, alpha) if alpha < 1 else colour, "width": width}
        return shared | {"x": x, "y": y, "line": style, "hovertemplate": words}

    traces = [line(x, y, f"seed {seed}", 1, 0.3) for seed, (x, y) in sorted(curves.seeds.items())]
    if (mean := _mean(curves)) is not None:
        traces.append(line(*mean, f"mean of {len(curves.seeds)} seeds", 2.5, 1))
    else:
        traces[-1:] = [trace | {"line": {"color": colour, "width": 2}} for trace in traces[-1:]]
    if curves.marks:
        traces.append(_marks(curves, panel, theme))
    return traces


def _mean(curves: Curves) -> tuple[Array, Array] | None:
    """Mean of the seeds; None where there are fewer than two or their x differ."""
    lines = list(curves.seeds.values())
    if len(lines) < 2 or any(not np.array_equal(x, lines[0][0]) for x, _ in lines):
        return None
    return lines[0][0], np.mean([y for _, y in lines], 0)


def _marks(curves: Curves, panel: ArmPanel, theme: Theme) -> dict[str, Any]:
    """Where it happens, on the line of its seed."""
    at = {seed: x for seed, x in sorted(curves.marks.items()) if seed in curves.seeds}
    values = [float(np.interp(x, *curves.seeds[seed])) for seed, x in at.items()]
    colour = run_colour(theme, curves.number)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe_text(f"{curves.name}: {panel.mark_words}", 50),
        "legendgroup": f"{curves.name}: {panel.mark_words}",
        "legendrank": 1100,
        "showlegend": False,
        "x": list(at.values()),
        "y": values,
        "text": [f"seed {seed}: {panel.mark_words}" for seed in at],
        "hovertemplate": "%{text}, step %{x}<extra></extra>",
        "cliponaxis": False,
        "marker": {
            "symbol": panel.mark_symbol,
            "size": 11,
            "color": colour,
            "line": {"width": 1, "color": PALETTES[theme].paper},
        },
    }


def _threshold(panel: ArmPanel, theme: Theme, suffix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    colour = PALETTES[theme].warning
    shape = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": f"y{suffix}",
        "y0": panel.line,
        "y1": panel.line,
        "line": {"color": colour, "width": 1.2, "dash": "dash"},
    }
    words = {
        "text": safe_text(panel.line_words),
        "showarrow": False,
        "xref": "paper",
        "x": 1,
        "xanchor": "left",
        "xshift": 2,
        "yref": f"y{suffix}",
        "y": panel.line,
        "yanchor": "middle",
        "font": {"color": colour, "size": 11},
    }
    return shape, words


def _name_once(data: list[dict[str, Any]]) -> None:
    """Every arm and kind of mark stands in the legend once, with its boldest line."""
    last = {
        trace["legendgroup"]: number
        for number, trace in enumerate(data)
        if trace["mode"] == "markers" or trace["line"]["width"] >= 2
    }
    for number in last.values():
        data[number]["showlegend"] = True
