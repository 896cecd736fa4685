"""Which source makes the gradient's second moment, step by step."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import plotly.graph_objects as go
import polars as pl

from mmhealth.figures.decimation import Window
from mmhealth.figures.panels import curve, step_axis
from mmhealth.figures.runs import RunView
from mmhealth.figures.style import Theme, axis, empty_figure, make_figure, run_colour, safe_text

_MOST, _MOST_OF_SEVERAL = 5, 2
"""Sources that are drawn, those with the largest share; of one run, and of each of several."""


def sources_figure(
    runs: Sequence[RunView], *, theme: Theme = "light", window: Window | None = None
) -> go.Figure:
    """Shares of sum |G_i|^2 by source (solid) and of the trajectories (dotted), a colour each."""
    shown = {run.name: sources_shown(run) for run in runs}
    drawn = [run for run in runs if shown[run.name]]
    if not drawn:
        reason = "insufficient data: grad_norm, or source, is not logged, or there is one source"
        return empty_figure(reason if runs else "no run is chosen", theme)
    most = _MOST if len(drawn) == 1 else _MOST_OF_SEVERAL
    data: list[dict[str, Any]] = []
    colours = count()
    for run in drawn:
        for source in sorted(shown[run.name][:most]):
            name = source if len(drawn) == 1 else f"{run.name}: {source}"
            data += _lines(run, source, name, run_colour(theme, next(colours)), window)
    return make_figure(
        data,
        theme,
        xaxis=step_axis(runs, theme),
        yaxis=axis(theme, range=[0, 1.02], tickformat=".0%"),
    )


def sources_shown(run: RunView) -> list[str]:
    """The sources of a run that has several, those with the largest shares of sum |G_i|^2 first."""
    if run.sources is None or run.sources.is_empty():
        return []
    total = run.sources.group_by("source").agg(pl.col("second_moment_share").sort().sum())
    order = total.sort("second_moment_share", "source", descending=[True, False])
    return order["source"].to_list() if len(order) > 1 else []


def _lines(
    run: RunView, source: str, name: str, colour: str, window: Window | None
) -> list[dict[str, Any]]:
    assert run.sources is not None
    own = run.timeline.select("step").join(
        run.sources.filter(pl.col("source") == source), on="step", how="left", maintain_order="left"
    )
    text = {"name": safe_text(name, 40), "legendgroup": name}
    words = f"{safe_text(name)}<br>step %{{x}}: %{{y:.1%}}"
    rows = curve(run, own["step"], own["share_of_rows"], colour=colour, dash="dot", window=window)
    rows["line"]["width"] = 1.2
    rows |= text | {
        "showlegend": False,
        "hovertemplate": f"{words} of the trajectories<extra></extra>",
    }
    held = curve(run, own["step"], own["second_moment_share"], colour=colour, window=window)
    held |= text | {"hovertemplate": f"{words} of the squared norms<extra></extra>"}
    return [rows, held]
