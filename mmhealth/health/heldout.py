"""Held-out evaluations of a run: success over steps, its stall, and the last at each horizon."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import HorizonMatrix, last_judged_step, stall_step
from mmhealth.estimators.horizon import Regime
from mmhealth.runlog import Run

MEAN_STEPS, AHEAD_STEPS, STALL_DELTA = 15, 40, 0.02
"""Of a stall: window of the mean, steps that lie ahead of it, and the improvement asked for."""
LATER_GAIN = 0.05
"""A stall is left behind when success rises this much above it later."""

COURSE: dict[str, Any] = {
    "step": pl.Int64,
    "episodes": pl.Int64,
    "successes": pl.Int64,
    "rate": pl.Float64,
    "mean": pl.Float64,
}
_FEW_STEPS = 32
_Row = tuple[list[int], int, int, int]


@dataclass(frozen=True, slots=True)
class HeldOutCourse:
    """Held-out success of a run's own policy at one evaluation horizon."""

    eval_horizon: int | None
    """The horizon evaluated at most steps, the longest among equals; None when none was logged."""
    frame: pl.DataFrame
    """One row an evaluated step, columns of `COURSE`: ``rate`` is the share of episodes solved,
    ``mean`` that of the trailing 15 steps, null until so many lie behind."""
    stall_step: int | None
    """The first stall that success has not left behind since."""
    stall_reason: str | None
    """Why there is no stall step."""
    judged_to: int | None = None
    """Last step at which a stall could have been seen; None when there is none."""


def held_out_course(evaluations: pl.DataFrame) -> HeldOutCourse:
    """Held-out success over steps and where it stalls (`mmhealth.estimators.stall_step`).

    ``evaluations`` as in `mmhealth.runlog.Run.evaluations`; several of one step are added up.
    """
    own = own_evaluations(evaluations)
    if own.is_empty():
        empty = pl.DataFrame(schema=COURSE)
        return HeldOutCourse(None, empty, None, "no held-out evaluation is logged")
    often = own.group_by("eval_horizon").agg(pl.col("step").n_unique())
    often = often.sort("step", "eval_horizon", descending=True, nulls_last=True)
    horizon = often["eval_horizon"][0]
    frame = (
        own.filter(pl.col("eval_horizon").eq_missing(horizon))
        .group_by("step")
        .agg(pl.col("episodes").sum(), pl.col("successes").sum())
        .sort("step")
        .with_columns(rate=pl.col("successes") / pl.col("episodes"))
    )
    means = frame.rolling("step", period=f"{MEAN_STEPS}i").agg(mean=pl.col("rate").mean())["mean"]
    full = pl.col("step") >= pl.col("step").min() + MEAN_STEPS - 1
    frame = frame.with_columns(mean=means).with_columns(mean=pl.when(full).then(pl.col("mean")))
    judged = last_judged_step(frame["step"], MEAN_STEPS, AHEAD_STEPS)
    return HeldOutCourse(horizon, frame.select(list(COURSE)), *_stall(frame, judged), judged)


@dataclass(frozen=True, slots=True)
class RunHorizons:
    """The last evaluations of one run at each horizon, and what could not enter."""

    matrix: HorizonMatrix
    left_out: tuple[str, ...]
    """In words: evaluations that are not in the matrix, and why."""


def final_horizons(evaluations: pl.DataFrame, sampled: Callable[[], list[int]]) -> RunHorizons:
    """Matrix of the last evaluated step of each (policy_id, eval_horizon) of one run.

    An evaluation without ``train_horizons`` of the run's own policy counts for the horizons that
    its trajectories were ``sampled`` with, which is asked for only then. Policies of one regime are
    added up.
    """
    rows: list[_Row] = []
    left_out: dict[str, None] = {}
    for evaluation in _final_evaluations(evaluations):
        if not evaluation["train_horizons"] and evaluation["policy_id"] is None:
            evaluation["train_horizons"] = sampled()
        try:
            rows.append(_checked(evaluation))
        except EstimatorInputError as reason:
            left_out[f"step {evaluation['step']}: {reason}"] = None
    return RunHorizons(HorizonMatrix.from_rows(rows), tuple(left_out))


def matrix_rows(matrices: Mapping[str, HorizonMatrix]) -> list[tuple[str, Regime, bool]]:
    """Rows of the matrices of several runs: name, regime, and whether another run shares it."""
    regimes = [regime for matrix in matrices.values() for regime in matrix.regimes]
    rows = [
        (name, regime, regimes.count(regime) > 1)
        for name, matrix in matrices.items()
        for regime in matrix.regimes
    ]
    return sorted(rows, key=lambda row: (len(row[1]), row[1]))


class SampledHorizons:
    """Every horizon that the steps of a run were sampled with; a growing run is only read on."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._found: dict[tuple[int, int, int], list[int]] = {}

    def up_to(self, timeline: pl.DataFrame) -> list[int]:
        """Horizons in turns, ascending, of the steps in ``timeline`` (`Timeline.frame`)."""
        steps = list(timeline.select("attempt", "step", "n").iter_rows())
        new = [key for key in steps if key not in self._found]
        if len(new) > _FEW_STEPS:
            self._found |= {key: [] for key in new}
            places = {key[:2]: key for key in new}
            for rows in self._run.read("trajectories", ("horizon",)):
                if key := places.get((rows["attempt"][0], rows["step"][0])):
                    self._found[key] = _horizons(rows)
        else:
            for key in new:
                data = self._run.step_data(key[1])
                self._found[key] = [] if data is None else _horizons(data.trajectories)
        reduced = {(s.key.attempt, s.key.step): s.horizons for s in self._run.reduced_steps()}
        self._found |= {key: list(reduced[key[:2]]) for key in new if key[:2] in reduced}
        return sorted({horizon for key in steps for horizon in self._found[key]})


def _horizons(trajectories: pl.DataFrame) -> list[int]:
    if "horizon" not in trajectories.columns:
        return []
    return [int(horizon) for horizon in trajectories["horizon"].drop_nulls().unique()]


def own_evaluations(evaluations: pl.DataFrame) -> pl.DataFrame:
    """Evaluations of the run's own policy that have episodes and successes."""
    if not {"episodes", "successes"} <= set(evaluations.columns):
        return pl.DataFrame()
    if "policy_id" in evaluations.columns:
        evaluations = evaluations.filter(pl.col("policy_id").is_null())
    if "eval_horizon" not in evaluations.columns:
        evaluations = evaluations.with_columns(eval_horizon=pl.lit(None, pl.Int64))
    return evaluations.filter((pl.col("episodes") > 0) & pl.col("successes").is_not_null())


def _stall(course: pl.DataFrame, judged: int | None) -> tuple[int | None, str | None]:
    steps, needed = course["step"], MEAN_STEPS + AHEAD_STEPS
    span = steps[-1] - steps[0] + 1
    if span < needed:
        return None, f"evaluations span {span} steps; a stall can be seen from {needed} on"
    if judged is None:
        return None, f"evaluations are too far apart: none lies {AHEAD_STEPS} steps behind another"
    try:
        rates, delta = course["rate"], STALL_DELTA
        stall = stall_step(steps, rates, MEAN_STEPS, AHEAD_STEPS, delta, later_gain=LATER_GAIN)
    except EstimatorInputError as error:
        return None, str(error)
    if stall is not None:
        return stall, None
    return None, f"held-out success kept improving up to step {judged}; later steps need more ahead"


def _final_evaluations(evaluations: pl.DataFrame) -> list[dict[str, Any]]:
    if evaluations.is_empty():
        return []
    names = ("step", "policy_id", "train_horizons", "eval_horizon", "episodes", "successes")
    columns = [
        pl.col(name) if name in evaluations.columns else pl.lit(None).alias(name) for name in names
    ]
    frame = evaluations.select(columns)
    last = pl.col("step").max().over("policy_id", "eval_horizon")
    return frame.filter(pl.col("step") == last).to_dicts()


def _checked(evaluation: dict[str, Any]) -> _Row:
    for name in ("eval_horizon", "episodes", "successes"):
        if evaluation[name] is None:
            raise EstimatorInputError(f"{name} is not logged")
    if not evaluation["train_horizons"]:
        raise EstimatorInputError(
            "train_horizons is not logged, nor the horizon the trajectories were sampled with"
        )
    row = (
        list(evaluation["train_horizons"]),
        int(evaluation["eval_horizon"]),
        int(evaluation["episodes"]),
        int(evaluation["successes"]),
    )
    HorizonMatrix.from_rows([row])
    return row
