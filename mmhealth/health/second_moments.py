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
from mmhealth.health.rows import Missing, Rows, last_update, with_role
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
    rows = Rows(with_role(last_update(data.updates), UPDATE_ROLES), "update")
    try:
        return SliceMoments(column, pl.DataFrame(by_slice(data, rows, column), schema=SCHEMA))
    except (Missing, EstimatorInputError) as reason:
        return SliceMoments(column, pl.DataFrame(schema=SCHEMA), str(reason))


def by_slice(data: StepData, rows: Rows, column: str) -> list[dict[str, Any]]:
    """The rows of `SliceMoments.frame`. Raises Missing or EstimatorInputError where none are.

    ``rows``: those that entered an update, each as it entered its last one.
    """
    norms = rows.numbers("grad_norm")
    if lost := int((~np.isfinite(norms)).sum()):
        raise Missing(f"{lost} of {norms.size} rows are not finite")
    if column not in data.trajectories.columns:
        raise Missing(f"{column} is not logged")
    found = rows.look_up(data.trajectories, column)
    slicings, skipped = cut(rows.frame.select("step").hstack([found]), [column])
    if not slicings:
        raise Missing(f"{column}: {skipped[column]}")
    (slicing,) = slicings
    moments = estimators.second_moments(norms, slicing.codes, len(slicing.labels))
    columns = (
        slicing.labels,
        moments.rows.tolist(),
        moments.share_of_rows.tolist(),
        moments.mean_square.tolist(),
        moments.share.tolist(),
    )
    return [dict(zip(SCHEMA, row, strict=True)) for row in zip(*columns, strict=True)]
