"""The interval of a metric around its line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mmhealth.figures.decimation import Window, decimate_window
from mmhealth.figures.runs import RunView
from mmhealth.figures.style import safe_text


def interval_band(
    run: RunView, ends: tuple[str, str], colour: str, window: Window | None
) -> dict[str, Any]:
    """The area between two columns, with gaps where either is null."""
    steps = run.timeline["step"].to_numpy()
    low, high = (run.timeline[end].cast(pl.Float64).to_numpy() for end in ends)
    kept = decimate_window(steps, high, window)
    steps, low, high = steps[kept], low[kept], high[kept]
    known = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    x, y = [], []
    for part in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        x += [*steps[part], *steps[part][::-1], None]
        y += [*high[part], *low[part][::-1], None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": safe_text(run.name, 40),
        "legendgroup": run.name,
        "showlegend": False,
        "x": x,
        "y": y,
        "line": {"width": 1, "color": colour},
        "fill": "toself",
        "fillcolor": colour,
        "hoverinfo": "skip",
    }


def tell_besides(trace: dict[str, Any], run: RunView, columns: Sequence[str]) -> None:
    """Have the hover label of a line name these columns, too."""
    shown = run.timeline.filter(pl.col("step").is_in(trace["x"].tolist())).select(columns)
    trace["text"] = [
        "<br>".join(
            f"{name} {'not known' if value is None else f'{value:.4g}'}"
            for name, value in row.items()
        )
        for row in shown.to_dicts()
    ]
    trace["hovertemplate"] = trace["hovertemplate"].replace("<extra>", "<br>%{text}<extra>")
