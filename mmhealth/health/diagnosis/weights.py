"""Log weights taken apart into what different causes make of them.

- *mismatch*: sampler against trainer, ``log_weight_mismatch`` as logged;
- *age*: what is left of it at the step's first update, which an older behaviour policy makes;
- *reuse*: what it gained from the first update of the step to the last, on the same batch.

How much each would cost alone is its *loss*, ``-ln ESS`` of the weights that it alone would make
(nats; a Gaussian of standard deviation s loses s^2; an ESS of 50 % is 0.69).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.diagnosis.sampled import SampledRows
from mmhealth.health.rows import Array, Missing
from mmhealth.runlog import Run

_PARTS = ("mismatch", "age", "reuse", "updates")
_TRAJECTORY = ("step", "rank", "trajectory_id")


@dataclass(frozen=True, slots=True)
class WeightParts:
    """Losses of the parts of the log weights, (steps,) each; NaN: not known."""

    has_mismatch: bool
    mismatch: Array
    age: Array
    reuse: Array
    updates: Array
    """Mean number of updates of a trajectory."""


def read_weights(run: Run, steps: pl.Series) -> WeightParts:
    """The parts at these steps. Raises `Missing` where there are none."""
    if run.loss_ratio == "none":
        raise Missing("the loss has no importance ratio")
    rows = SampledRows(run, "updates")
    known = rows.known(["log_weight", "log_weight_mismatch"])
    if "log_weight" not in known:
        raise Missing("log_weight is not logged")
    has_mismatch = "log_weight_mismatch" in known
    columns = ["rank", "trajectory_id", "update", *known]
    found = [part for window in rows.windows(columns) for part in _steps_of(window, has_mismatch)]
    types = {"step": pl.Int64, **dict.fromkeys(_PARTS, pl.Float64)}
    table = pl.DataFrame(found, types, orient="row")
    aligned = steps.to_frame("step").join(table, on="step", how="left", maintain_order="left")
    parts = (aligned[name].fill_null(np.nan).to_numpy() for name in _PARTS)
    return WeightParts(has_mismatch, *parts)


def _steps_of(window: pl.DataFrame, has_mismatch: bool) -> Iterator[tuple[float, ...]]:
    """Of each step of a window, the step and what `WeightParts` says of it."""
    part = pl.col("log_weight_mismatch") if has_mismatch else pl.lit(0.0)
    uses = window.select(
        *_TRAJECTORY,
        "update",
        pl.col("log_weight").cast(pl.Float64).alias("first"),
        part.cast(pl.Float64).fill_null(np.nan).alias("mismatch"),
    )
    if _are_distinct(uses):
        by_trajectory = uses.with_columns(last="first", updates=pl.lit(1))
    else:
        by_trajectory = (
            uses.sort("step", pl.col("update").fill_null(0), maintain_order=True)
            .group_by(_TRAJECTORY, maintain_order=True)
            .agg(
                pl.col("first", "mismatch").first(),
                pl.col("first").last().alias("last"),
                pl.len().alias("updates"),
            )
        )
    for (step,), rows in by_trajectory.partition_by(
        "step", as_dict=True, maintain_order=True
    ).items():
        mismatch, first = rows["mismatch"].to_numpy(), rows["first"].to_numpy()
        yield (
            int(step),
            loss(mismatch) if has_mismatch else np.nan,
            loss(first - mismatch),
            loss(rows["last"].to_numpy() - first),
            float(rows["updates"].to_numpy().mean()),
        )


def _are_distinct(uses: pl.DataFrame) -> bool:
    """Whether each row is of a trajectory above that of the row before: each has one use, told
    without a search. False says nothing."""
    higher = np.zeros(max(len(uses) - 1, 0), np.bool_)
    for name in reversed(_TRAJECTORY):
        if not uses[name].dtype.is_integer() or uses[name].has_nulls():
            return False
        key = uses[name].to_numpy()
        higher = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & higher)
    return bool(higher.all())


def loss(log_weights: Array) -> float:
    """``-ln ESS`` as a fraction, of finite log weights; NaN where more than half are not."""
    known = log_weights[np.isfinite(log_weights)]
    if known.size * 2 <= log_weights.size:
        return float("nan")
    try:
        return float(-np.log(estimators.ess(known) / known.size))
    except EstimatorInputError:
        return float("nan")
