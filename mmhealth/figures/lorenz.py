"""The contribution curve of a step."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import lorenz
from mmhealth.figures.decimation import decimate
from mmhealth.figures.runs import RunView
from mmhealth.figures.style import (
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
from mmhealth.health.contribution import StepContribution


def lorenz_figure(
    steps: Sequence[tuple[RunView, StepContribution]], *, theme: Theme = "light"
) -> go.Figure:
    """Lorenz curve of the contributions in one step of each run."""
    palette = PALETTES[theme]
    data: list[dict[str, Any]] = []
    reasons = []
    same = len({step.step for _, step in steps}) == 1
    for run, step in steps:
        try:
            population, held = lorenz(step.values.to_numpy())
        except EstimatorInputError as error:
            reasons.append(f"{run.name}: insufficient data: {step.reason or error}")
            continue
        kept = decimate(held, 400)
        top = [
            f"the largest {1 - x:.1%} hold {1 - y:.1%}"
            for x, y in zip(population[kept], held[kept], strict=True)
        ]
        colour = run_colour(theme, run.number)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": safe_text(run.name if same else f"{run.name}, step {step.step}", 40),
                "x": population[kept],
                "y": held[kept],
                "text": top,
                "line": {"color": colour, "width": 2.5},
                "fill": "tozeroy",
                "fillcolor": translucent(colour, 0.06),
                "hovertemplate": f"{safe_text(run.name)}: %{{text}}<extra></extra>",
            }
        )
    if not data:
        return empty_figure("; ".join(reasons) or "no step is complete yet", theme)
    equal = {
        "type": "scatter",
        "mode": "lines",
        "name": "all alike",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": palette.muted, "width": 1, "dash": "dash"},
        "hoverinfo": "skip",
    }
    share = {"range": [0, 1], "tickformat": ".0%"}
    return make_figure(
        [equal, *data],
        theme,
        xaxis=axis(theme, title="trajectories, smallest first", **share),
        yaxis=axis(theme, title="contribution", **share),
        annotations=[note(reason, theme) for reason in reasons],
    )
