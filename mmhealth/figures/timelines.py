"""Figures over steps: one line a run."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import plotly.graph_objects as go

from mmhealth.figures.decimation import Window
from mmhealth.figures.panels import Panel, hover, line, step_axis, timeline_figure
from mmhealth.figures.runs import RunView, why_empty
from mmhealth.figures.style import (
    Theme,
    axis,
    empty_figure,
    make_figure,
    note,
    run_colour,
)
from mmhealth.health import Policy
from mmhealth.health.bases import Basis

BASES: tuple[Basis, ...] = get_args(Basis)
Shown = Basis | Literal["all"]
"""Which ESS a figure shows; bases never share an axis."""

BASIS_NAMES: dict[Basis, str] = {
    "weight": "weight: importance weights alone",
    "signal": "signal: weight × |advantage|",
    "contribution": "contribution: gradient norms",
}


def ess_figure(
    runs: Sequence[RunView],
    policy: Policy,
    *,
    basis: Shown = "signal",
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """ESS over steps with alert lines and marks; ``basis="all"``: each basis in its own panel."""
    shown = BASES if basis == "all" else (basis,)
    panels = [
        Panel(f"ess_{name}", title=BASIS_NAMES[name], dashed=f"ess_{name}_update", percent=True)
        for name in shown
    ]
    return timeline_figure(runs, policy, panels, theme, window)


def gini_figure(
    runs: Sequence[RunView],
    policy: Policy,
    *,
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """Gini coefficient of gradient norms over steps."""
    panel = Panel("gini_grad_norm", axis={"range": [0, 1.02]})
    return timeline_figure(runs, policy, [panel], theme, window)


def entropy_figure(
    runs: Sequence[RunView],
    policy: Policy,
    *,
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """Entropy over steps, nat a token."""
    panel = Panel(
        "entropy",
        dashed="strategic_entropy",
        dashed_name="choices of what to do",
        axis={"rangemode": "tozero", "title": "nat / token"},
    )
    return timeline_figure(runs, policy, [panel], theme, window)


def groups_figure(
    runs: Sequence[RunView],
    policy: Policy,
    *,
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """Share of dead groups over steps; dotted: of solved ones."""
    panel = Panel(
        "dead_group_share",
        dashed="solved_group_share",
        dash="dot",
        dashed_name="solved groups",
        percent=True,
    )
    return timeline_figure(runs, policy, [panel], theme, window)


def reward_ess_figure(
    runs: Sequence[RunView],
    *,
    basis: Basis = "signal",
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """Mean reward (left axis, solid) and ESS of a basis (right, dotted) over the same steps."""
    column = f"ess_{basis}"
    reasons = [reason for name in ("reward", column) if (reason := why_empty(runs, name))]
    if len(reasons) == 2:
        return empty_figure(reasons[0], theme)
    data = []
    for run in runs:
        colour = run_colour(theme, run.number)
        for metric, style in (("reward", "solid"), (column, "dot")):
            trace = line(run, metric, colour, style, window)
            if trace is None:
                continue
            if metric == column:
                trace |= {"yaxis": "y2", "showlegend": False}
                trace["hovertemplate"] = hover(run, metric, ".1%")
            data.append(trace)
    layout: dict[str, Any] = {
        "xaxis": step_axis(runs, theme),
        "yaxis": axis(theme, title="reward (solid)"),
        "yaxis2": axis(
            theme,
            title=f"ESS, {basis} (dotted)",
            overlaying="y",
            side="right",
            range=[0, 1.02],
            tickformat=".0%",
            tickmode="auto",
            showgrid=False,
        ),
        "annotations": [note(reason, theme) for reason in reasons],
    }
    return make_figure(data, theme, **layout)
