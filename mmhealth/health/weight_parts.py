"""Log weights of one step taken apart into what different causes make of them.

- *mismatch*: sampler against trainer, ``log_weight_mismatch`` as logged;
- *age*: what is left of it at the step's first update, which an older behaviour policy makes;
- *reuse*: what it gained from the first update of the step to the last, on the same batch.

How much each would cost alone is its *loss*, ``-ln ESS`` of the weights that it alone would make
(nats; a Gaussian of standard deviation s loses s^2; an ESS of 50 % is 0.69).
"""

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.rows import Array, are_distinct, as_floats, with_role
from mmhealth.schema import SAMPLED_ROLES

WEIGHT_COLUMNS = ("trajectory_id", "update", "log_weight", "log_weight_mismatch")


def weight_parts(updates: pl.DataFrame) -> dict[str, float]:
    """``mismatch``, ``age`` and ``reuse``: the losses, NaN where they are not known; ``updates``:
    mean number of updates of a trajectory. Without a mismatch that is logged age is all that the
    first update found, and ``mismatch`` is absent; without log weights all are.
    """
    rows = with_role(updates, SAMPLED_ROLES)
    if not _has_values(rows, "log_weight"):
        return {}
    has_mismatch = _has_values(rows, "log_weight_mismatch")
    part = pl.col("log_weight_mismatch") if has_mismatch else pl.lit(0.0)
    uses = rows.select(
        *("rank", "trajectory_id", "update"),
        first=pl.col("log_weight").cast(pl.Float64),
        mismatch=part.cast(pl.Float64),
    )
    if are_distinct(uses):
        uses = uses.with_columns(last="first", updates=pl.lit(1))
    else:
        ordered = uses.sort(pl.col("update").fill_null(0), maintain_order=True)
        uses = ordered.group_by("rank", "trajectory_id", maintain_order=True).agg(
            pl.col("first", "mismatch").first(), last=pl.col("first").last(), updates=pl.len()
        )
    first, last, mismatch = (as_floats(uses[name]) for name in ("first", "last", "mismatch"))
    with np.errstate(invalid="ignore"):  # -inf is a legitimate log weight
        age, reuse = first - mismatch, last - first
    found = {"age": loss(age), "reuse": loss(reuse)}
    found["updates"] = float(as_floats(uses["updates"]).mean())
    return found | {"mismatch": loss(mismatch)} if has_mismatch else found


def _has_values(rows: pl.DataFrame, column: str) -> bool:
    return column in rows.columns and rows[column].null_count() < len(rows)


def loss(log_weights: Array) -> float:
    """``-ln ESS`` as a fraction, of finite log weights; NaN where more than half are not."""
    known = log_weights[np.isfinite(log_weights)]
    if known.size * 2 <= log_weights.size:
        return float("nan")
    try:
        return float(-np.log(estimators.ess(known) / known.size))
    except EstimatorInputError:
        return float("nan")
