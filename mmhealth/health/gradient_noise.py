"""The gradient noise columns of a timeline row: what norms tell together with cosines.

They are of the updates that trajectories entered last: the one of the step, the last epoch's, or
all minibatches of that, pooled. |G| is a sum over the rows of an update, so with a row missing they
are not known; only the share that opposes the update is a matter of the rows there are.
"""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.health.rows import (
    Array,
    Collector,
    Measured,
    Missing,
    Rows,
    last_update,
    once,
    with_role,
)
from mmhealth.runlog import StepData
from mmhealth.schema import UPDATE_ROLES

LEVEL = 0.9
"""Nominal coverage of the intervals."""
UNRESOLVED = "the batch does not resolve the mean gradient: its noise scale has no upper limit"
NOT_LOGGED = "grad_cosine is not logged"
ALIKE = "the gradients do not differ: there is no noise"


def noise_columns(out: Collector, data: StepData, last: pl.DataFrame) -> None:
    """Put signal-to-noise ratio and noise scale with their intervals, diversity, opposing share.

    ``last``: each trajectory as it entered its last update.
    """

    @once
    def rows() -> tuple[Array, Array, Array]:
        if not data.complete:
            raise Missing("rows of the step are missing: an update is the sum of all of them")
        if _without_cosines(last):
            raise Missing(NOT_LOGGED)
        if "grad_norm" not in last.columns:
            return _aligned(Rows(with_role(last, UPDATE_ROLES), "update"))
        return _aligned(_whole_updates(data, last))

    @once
    def noise() -> estimators.GradientNoise:
        return estimators.gradient_noise(*rows())

    @once
    def interval() -> tuple[float, float]:
        return noise().snr_interval(LEVEL)

    @once
    def scales() -> tuple[float, float]:
        return noise().noise_scale_interval(LEVEL)

    def put(name: str, value: Callable[[], float], unknown: str = "") -> None:
        def finite() -> Measured:
            found = value()
            if not math.isfinite(found):
                raise Missing(unknown)
            return Measured(found, rows()[0].size)

        out.put(name, finite)

    put("gradient_snr", lambda: noise().snr, ALIKE)
    put("gradient_snr_low", lambda: interval()[0])
    put("gradient_snr_high", lambda: interval()[1])
    put("noise_scale", lambda: noise().noise_scale, UNRESOLVED)
    put("noise_scale_low", lambda: scales()[0], UNRESOLVED)
    put("noise_scale_high", lambda: scales()[1], UNRESOLVED)
    put("gradient_diversity", lambda: estimators.gradient_diversity(*rows()))
    out.put("opposing_share", lambda: _opposing(last))


def _without_cosines(rows: pl.DataFrame) -> bool:
    """Whether norms alone are logged, as in most runs: that is told at once."""
    return "grad_norm" in rows.columns and "grad_cosine" not in rows.columns


def _whole_updates(data: StepData, last: pl.DataFrame) -> Rows:
    """All rows of the updates that a trajectory entered last, each trajectory once an update."""
    entered = with_role(last, UPDATE_ROLES)
    if entered.is_empty():
        return Rows(entered, "update")
    number = pl.col("update").fill_null(0)
    wanted = entered.select(number).to_series().unique().sort().to_list()
    updates = [last_update(data.updates.filter(number == each)) for each in wanted]
    return Rows(with_role(pl.concat(updates), UPDATE_ROLES), "update")


def _opposing(last: pl.DataFrame) -> Measured:
    if _without_cosines(last):
        raise Missing(NOT_LOGGED)
    norms, cosines, _ = _aligned(Rows(with_role(last, UPDATE_ROLES), "update"))
    return Measured(estimators.opposing_share(norms, cosines), norms.size)


def _aligned(rows: Rows) -> tuple[Array, Array, Array]:
    """Norms, cosines and update of each row; a norm of 0 needs no cosine."""
    norms = rows.numbers("grad_norm")
    frame = rows.frame
    if "grad_cosine" not in frame.columns or frame["grad_cosine"].null_count() == len(frame):
        raise Missing(NOT_LOGGED)
    cosine = pl.when(pl.col("grad_norm") == 0).then(0.0).otherwise(pl.col("grad_cosine"))
    filled = Rows(frame.with_columns(grad_cosine=cosine), rows.what)
    cosines = filled.numbers("grad_cosine")
    if lost := int((~(np.isfinite(norms) & np.isfinite(cosines))).sum()):
        raise Missing(f"{lost} of {norms.size} rows are not finite")
    return norms, cosines, frame["update"].fill_null(0).cast(pl.Float64).to_numpy()
