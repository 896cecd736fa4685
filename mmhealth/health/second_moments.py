"""Second moments of a step's gradients by the slices of a column: whose gradients are large.

A slice that holds more of sum |G_i|^2 than of the trajectories makes more of the noise than its
number says. `mmhealth.health.blame` says whether chance explains it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.rows import Missing, Rows, last_update, look_up, with_role
from mmhealth.health.slices import cut
from mmhealth.runlog import StepData
from mmhealth.schema import UPDATE_ROLES

SCHEMA: dict[str, Any] = {
    "slice": pl.String,
    "rows": pl.Int64,
    "share_of_rows": pl.Float64,
    "second_moment": pl.Float64,
    "second_moment_share": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class SliceMoments:
    """The slices of one column in one step."""

    column: str
    frame: pl.DataFrame
    """Columns of `SCHEMA`, in the order of the slices' names: ``second_moment`` is the mean of
    |G_i|^2, in the unit of ``grad_norm`` squared, and its share that of sum |G_i|^2."""
    reason: str | None = None
    """Why there is nothing; None where there is something."""


def second_moments(data: StepData, column: str) -> SliceMoments:
    """Second moments by the slices of a trajectory column (see `mmhealth.health.slices`).

    Over the rows that entered an update, each as it entered its last one.
    """
    try:
        return SliceMoments(column, _by_slice(data, column))
    except (Missing, EstimatorInputError) as reason:
        return SliceMoments(column, pl.DataFrame(schema=SCHEMA), str(reason))


def _by_slice(data: StepData, column: str) -> pl.DataFrame:
    rows = Rows(with_role(last_update(data.updates), UPDATE_ROLES), "update")
    norms = rows.numbers("grad_norm")
    if lost := int((~np.isfinite(norms)).sum()):
        raise Missing(f"{lost} of {norms.size} rows are not finite")
    if column not in data.trajectories.columns:
        raise Missing(f"{column} is not logged")
    found = {"step": rows.frame["step"], column: look_up(rows.frame, data.trajectories, column)}
    slicings, skipped = cut(pl.DataFrame(found), [column])
    if not slicings:
        raise Missing(f"{column}: {skipped[column]}")
    (slicing,) = slicings
    moments = estimators.second_moments(norms, slicing.codes, len(slicing.labels))
    return pl.DataFrame(
        {
            "slice": slicing.labels,
            "rows": moments.rows,
            "share_of_rows": moments.share_of_rows,
            "second_moment": moments.mean_square,
            "second_moment_share": moments.share,
        },
        schema=SCHEMA,
    )
