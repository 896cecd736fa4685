"""The horizon matrix across runs: one row a training regime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import HorizonMatrix
from mmhealth.runlog import Run

_Row = tuple[list[int], int, int, int]


@dataclass(frozen=True, slots=True)
class Horizons:
    """Final held-out evaluations of all runs, and what could not enter."""

    matrix: HorizonMatrix
    left_out: tuple[str, ...]
    """In words: evaluations that are not in the matrix, and why."""


def horizon_matrix(runs: Sequence[tuple[str, Run]]) -> Horizons:
    """Matrix of the last evaluated step of each (run, policy_id, eval_horizon).

    An evaluation without ``train_horizons`` of the run's own policy counts for the horizons that
    the run's trajectories were sampled with.
    """
    rows: list[_Row] = []
    left_out: dict[str, None] = {}
    for label, run in runs:
        sampled: list[int] | None = None
        for evaluation in _final_evaluations(run.evaluations):
            if not evaluation["train_horizons"] and evaluation["policy_id"] is None:
                sampled = _sampled_horizons(run) if sampled is None else sampled
                evaluation["train_horizons"] = sampled
            try:
                rows.append(_checked(evaluation))
            except EstimatorInputError as reason:
                left_out[f"{label}, step {evaluation['step']}: {reason}"] = None
    return Horizons(HorizonMatrix.from_rows(rows), tuple(left_out))


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


def _sampled_horizons(run: Run) -> list[int]:
    trajectories = run.trajectories
    if "horizon" not in trajectories.columns:
        return []
    return [int(horizon) for horizon in trajectories["horizon"].drop_nulls().unique().sort()]
