"""The rows that the ESS of a basis is taken over: their values, what is known of them, metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.bases import (
    ON_POLICY,
    Basis,
    Level,
    first_weighted,
    fraction,
    known,
    log_basis,
    other_basis,
    weight_ess,
)
from mmhealth.health.rows import (
    Array,
    Collector,
    Measured,
    Missing,
    Rows,
    last_update,
    same_ids,
    with_role,
)
from mmhealth.runlog import Run, StepData
from mmhealth.schema import SAMPLED_ROLES

Flags = np.ndarray[Any, np.dtype[np.bool_]]

TOP = 0.05
"""Fraction of the rows that the top share is of."""
_KEYS = ["rank", "trajectory_id"]
ALL_ZERO = "no row holds anything: all values are zero"
"""Why there is nothing although the basis is known."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of some rows; None with a reason where they cannot be known."""

    rows: int
    ess: float | None
    """A count of rows."""
    ess_fraction: float | None
    """As the timeline has it: of the rows."""
    gini: float | None
    top5_share: float | None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BasisRows:
    """Sampled trajectories of one or several steps, each as it entered its last update."""

    basis: Basis
    frame: pl.DataFrame
    """The trajectories table's columns, with ``step`` and ``rank``."""
    log_values: Array
    """Value of each row on the basis, nats; -inf for a row that holds nothing."""
    updated: Flags
    """Rows that entered an update. Others hold nothing: they count in the ESS of signal and
    contribution, not in Gini and top share."""
    nonfinite: int
    """Rows left out because their value is NaN or infinite."""

    def measure(self, keep: Flags) -> Metrics:
        """Metrics of some of the rows, from the beginning."""
        log_values, updated = self.log_values[keep], self.log_values[keep & self.updated]
        out = Collector()

        def share() -> Measured:
            return weight_ess(log_values) if self.basis == "weight" else fraction(log_values)

        def values() -> Array:
            if not np.isfinite(updated).any():
                raise Missing(ALL_ZERO)
            return np.asarray(np.exp(updated - updated.max()), np.float64)

        out.put("ess_fraction", share)
        out.put("gini", lambda: estimators.gini(values()))
        out.put("top5_share", lambda: estimators.top_share(values(), TOP))
        part = out.values["ess_fraction"]
        ess = None if part is None else part * len(log_values)
        return Metrics(rows=len(log_values), ess=ess, reasons=out.reasons, **out.values)


def basis_rows(
    run: Run, data: Sequence[StepData], basis: Basis
) -> tuple[BasisRows | None, dict[int, str]]:
    """The rows of these steps together, and the steps in which the basis is not known, with why.

    None where it is known in no step, or no row holds anything.
    """
    parts, left_out = [], {}
    for item in data:
        try:
            parts.append(_of_step(run, item, basis))
        except (Missing, EstimatorInputError) as reason:
            left_out[item.step] = str(reason)
    if not parts:
        return None, left_out
    rows = BasisRows(
        basis,
        pl.concat([part.frame for part in parts], how="diagonal_relaxed"),
        np.concatenate([part.log_values for part in parts]),
        np.concatenate([part.updated for part in parts]),
        sum(part.nonfinite for part in parts),
    )
    if why := _nothing_to_share(rows):
        steps = rows.frame["step"].unique().to_list()
        return None, left_out | dict.fromkeys(steps, why)
    return rows, left_out


def _nothing_to_share(rows: BasisRows) -> str | None:
    if not np.isfinite(rows.log_values).any():
        return ALL_ZERO
    return ON_POLICY if rows.basis == "weight" and not rows.log_values.any() else None


def _of_step(run: Run, data: StepData, basis: Basis) -> BasisRows:
    """Rows of one step. Raises Missing where the timeline has no ESS, or the rows are reduced."""
    if data.reduced is not None:
        raise Missing(data.reduced.reason)
    level = Level(run.loss_ratio, data)
    if basis == "signal" and level.weighs and not level.has_weights:
        why = other_basis(first_weighted(run), data.attempt, data.step)
        if why is not None:
            raise Missing(why)
    rows = Rows(with_role(last_update(data.updates), SAMPLED_ROLES), "sampled")
    log_values = log_basis(basis, level, rows)
    lost = np.isnan(log_values) | np.isposinf(log_values)
    log_values = known(log_values, lost)
    used = rows.frame.filter(~pl.Series(lost)).select("step", *_KEYS)
    idle = used.clear()
    if not data.trajectories.is_empty():
        used, trajectories = same_ids(used, data.trajectories)
        trajectories = trajectories.unique(_KEYS, keep="last", maintain_order=True)
        used = used.join(trajectories.drop("step"), on=_KEYS, how="left", maintain_order="left")
        if basis != "weight":
            idle = idle_trajectories(trajectories, rows.frame, data)
    return BasisRows(
        basis,
        pl.concat([used, idle], how="diagonal_relaxed"),
        np.concatenate([log_values, np.full(len(idle), -np.inf)]),
        np.arange(len(used) + len(idle)) < len(used),
        int(lost.sum()),
    )


def idle_trajectories(
    trajectories: pl.DataFrame, used: pl.DataFrame, data: StepData
) -> pl.DataFrame:
    """Sampled trajectories, one row each, that entered no update; ``used`` has those that did.

    Where rows cannot be read, only those of ranks whose updates could be: what is lost is not known
    to hold nothing.
    """
    sampled = with_role(trajectories, SAMPLED_ROLES).drop_nulls("trajectory_id")
    sampled, used = same_ids(sampled, used)
    if data.rows_missing:
        sampled = sampled.filter(pl.col("rank").is_in(used["rank"].unique().to_list()))
    return sampled.join(used, on=_KEYS, how="anti", maintain_order="left")
