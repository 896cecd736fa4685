"""What is drawn of results: by name, a title, words and a function of the theme."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import plotly.graph_objects as go

from mmhealth.figures import Theme
from mmhealth.figures.arms import outcomes_figure, regimes_figure
from mmhealth.figures.experiments import ArmPanel, Curves, arms_figure
from mmhealth.reference.experiments.arms import Arm
from mmhealth.reference.experiments.arms.horizons import HORIZONS
from mmhealth.reference.experiments.claims import entropy, ess
from mmhealth.reference.experiments.claims.courses import first_below, stall
from mmhealth.reference.experiments.results import Result, Results

Marks = Callable[[Result], float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure of the report."""

    name: str
    """Of its files."""
    title: str
    shows: str
    """What to read off it."""
    height: int
    """In pixels."""
    draw: Callable[[Theme], go.Figure]


def drawings(figures: Sequence[str], arms: Sequence[Arm], results: Results) -> list[Drawing]:
    """The drawings of the figures, each followed by the outcome of all its arms."""
    drawn = []
    for figure in figures:
        if figure in _MAIN:
            drawn.append(_MAIN[figure](results))
        own = [arm.name for arm in arms if arm.figure == figure]
        if own:
            drawn.append(_outcomes(figure, own, results))
    return drawn


def _outcomes(figure: str, names: Sequence[str], results: Results) -> Drawing:
    values = {name: results.final(figure, name) for name in names}
    title = f"figure {figure}" if figure.isdigit() else figure
    return Drawing(
        name=f"{_stem(figure)}-arms",
        title=f"All arms of {title}",
        shows="Held-out success of the trained policies; dots are seeds, bars their means.",
        height=110 + 38 * len(values),
        draw=lambda theme: outcomes_figure(values, title="held-out success", theme=theme),
    )


def _stem(figure: str) -> str:
    return f"figure-{figure}" if figure.isdigit() else figure


def _panel(
    results: Results,
    figure: str,
    names: Sequence[str],
    series: str | None,
    marks: Mapping[str, Marks] | None = None,
) -> list[Curves]:
    """A series of some arms, or held-out success (None)."""
    curves = []
    for number, name in enumerate(names):
        runs = results.of(figure, name)
        lines = {
            seed: run.success() if series is None else (run.series("step"), run.series(series))
            for seed, run in runs.items()
        }
        known = {seed: xy for seed, xy in lines.items() if np.isfinite(xy[1]).any()}
        mark = (marks or {}).get(name)
        found = {seed: mark(run) for seed, run in runs.items()} if mark else {}
        at = {seed: x for seed, x in found.items() if x is not None}
        curves.append(Curves(name=name, number=number, seeds=known, marks=at))
    return curves


def _success(results: Results, figure: str, names: Sequence[str], **more: Marks) -> ArmPanel:
    """Held-out success; ``more`` by name of the arm: where it stalls."""
    return ArmPanel(
        title="Held-out success",
        curves=_panel(results, figure, names, None, more),
        percent=True,
        mark_words="stall",
        mark_symbol="square",
    )


def _entropy(results: Results) -> Drawing:
    names = ["baseline", "staged 30 %", "entropy bonus"]
    collapse = partial(first_below, name="strategic_entropy", line=entropy.COLLAPSED)
    panels = [
        ArmPanel(
            title="Entropy of the tool choice, nats",
            curves=_panel(results, "1", names, "strategic_entropy", {"baseline": collapse}),
            line=entropy.COLLAPSED,
            line_words=f"{entropy.COLLAPSED:g}",
            mark_words=f"5-step mean below {entropy.COLLAPSED:g} nats",
        ),
        ArmPanel(
            title="Mean entropy of all decisions, nats",
            curves=_panel(results, "1", names, "entropy"),
        ),
        _success(results, "1", names),
    ]
    return _over_steps(
        "1",
        "Staged objectives against premature specialisation",
        "Does the choice of tools stay open until the preference can inform it?",
        panels,
    )


def _ess(results: Results) -> Drawing:
    names = ["baseline", "ESS loop", "hard negatives"]
    crossing = partial(first_below, name="ess_signal", line=ess.LINE)
    panels = [
        ArmPanel(
            title="Signal ESS, share of the sampled rows",
            curves=_panel(results, "2", names, "ess_signal", {"baseline": crossing}),
            percent=True,
            line=ess.LINE,
            line_words="20 %",
            mark_words="5-step mean below 20 %",
        ),
        _success(results, "2", names, baseline=stall),
    ]
    return _over_steps(
        "2",
        "Effective sample size, the stall that follows, and the loop",
        "Does the ESS fall below 20 % of the batch before held-out success stalls? Until the alert "
        "all arms are the same run.",
        panels,
    )


def _variance(results: Results) -> Drawing:
    names = ["baseline", "variance correction"]
    panels = [
        ArmPanel(
            title="Gini coefficient of gradient norms",
            curves=_panel(results, "3", names, "gini"),
            top=1.0,
        ),
        ArmPanel(
            title="Contribution ESS, share of the rows",
            curves=_panel(results, "3", names, "ess_contribution"),
            percent=True,
            top=1.0,
        ),
        _success(results, "3", names),
    ]
    return _over_steps(
        "3",
        "Inequality of gradient contributions, and its correction",
        "How evenly trajectories share in the update. Gini: 0 if all do alike, 1 if one has all.",
        panels,
    )


def _constraints(results: Results) -> Drawing:
    names = ["hard", "soft", "softplus alone"]
    panels = [
        ArmPanel(
            title="Episodes without a violation",
            curves=_panel(results, "4", names, "compliance"),
            percent=True,
        ),
        ArmPanel(
            title="Episodes with one sub-agent in every turn",
            curves=_panel(results, "4", names, "retreat"),
            percent=True,
        ),
        _success(results, "4", names),
    ]
    return _over_steps(
        "4",
        "Hard and soft constraints",
        "Both comply; do they still work in parallel, and solve the task?",
        panels,
    )


def _horizons(results: Results) -> Drawing:
    names = [*(f"trained at {h}" for h in HORIZONS), "mixed", "curriculum", "fine-tuned"]
    regimes = {name: [results.final("5", name, h) for h in HORIZONS] for name in names}
    return Drawing(
        name="figure-5",
        title="Success by training regime and evaluation horizon",
        shows="Mean over seeds, their range in % below; each regime samples about as many turns.",
        height=130 + 56 * len(names),
        draw=lambda theme: regimes_figure(regimes, HORIZONS, theme=theme),
    )


def _over_steps(figure: str, title: str, shows: str, panels: Sequence[ArmPanel]) -> Drawing:
    return Drawing(
        name=f"figure-{figure}",
        title=title,
        shows=f"{shows} Thin lines are seeds, bold ones their means.",
        height=120 + 230 * len(panels),
        draw=lambda theme: arms_figure(panels, theme=theme),
    )


_MAIN: dict[str, Callable[[Results], Drawing]] = {
    "1": _entropy,
    "2": _ess,
    "3": _variance,
    "4": _constraints,
    "5": _horizons,
}
