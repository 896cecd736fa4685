"""Which trajectories make the update of a step, and with which share."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.health.bases import Level, log_basis
from mmhealth.health.rows import Missing, Rows, last_update, same_ids
from mmhealth.runlog import StepData

ContributionBasis = Literal["grad_norm", "signal"]


@dataclass(frozen=True, slots=True)
class StepContribution:
    """The trajectories of a step, the largest contribution first."""

    step: int
    frame: pl.DataFrame
    """Trajectories with what is known of their last update, and with ``contribution`` and
    ``contribution_share``; both null where not known, and those rows come last."""
    basis: ContributionBasis | None
    """Gradient norms, or |advantage| x weight; None when neither is logged."""
    reason: str | None
    """Why the basis is not the gradient norm."""

    @property
    def values(self) -> pl.Series:
        """Finite contributions, largest first."""
        values = self.frame["contribution"].drop_nulls()
        return values.filter(values.is_finite())

    def describe(self) -> str:
        """What contribution means here, in words."""
        if self.basis == "grad_norm":
            return "contribution is the gradient norm of the trajectory's term in the loss"
        if self.basis == "signal":
            return f"contribution is |advantage| × weight, because {self.reason}"
        return f"insufficient data: {self.reason}"


def step_contribution(data: StepData, loss_ratio: str) -> StepContribution:
    """Trajectories of a step sorted by contribution; sampled and injected ones alike."""
    trajectories, updates = data.trajectories, last_update(data.updates)
    if not updates.is_empty() and not trajectories.is_empty():
        trajectories, updates = same_ids(trajectories, updates)
    frame = _join(trajectories, updates)
    basis: ContributionBasis | None = None
    reason = None
    log_values = None
    if not updates.is_empty():
        rows, level = Rows(updates, "update"), Level(loss_ratio, data)
        try:
            log_values = log_basis("contribution", level, rows)
            basis = "grad_norm"
        except (Missing, EstimatorInputError) as why:
            reason = str(why)
            try:
                log_values = log_basis("signal", level, rows)
                basis = "signal"
            except (Missing, EstimatorInputError) as why_not:
                reason = f"{reason}, {why_not}"
    else:
        reason = "no update is logged for this step"
        if data.reduced is not None:
            reason = data.reduced.reason
    if log_values is None:
        unknown = pl.lit(None, pl.Float64)
        frame = frame.with_columns(contribution=unknown, contribution_share=unknown)
        return StepContribution(data.step, frame, None, reason)
    keys = ["rank", "trajectory_id"]
    with np.errstate(over="ignore"):
        values = np.exp(log_values)
    known = updates.select(keys).with_columns(contribution=pl.Series(values).fill_nan(None))
    known = known.unique(keys, keep="last", maintain_order=True)
    frame = frame.join(known, on=keys, how="left", maintain_order="left")
    finite = pl.col("contribution").filter(pl.col("contribution").is_finite())
    share = pl.col("contribution") / finite.sort().sum()
    share = pl.when(share.is_finite()).then(share)
    frame = frame.with_columns(contribution_share=share).sort(
        "contribution", descending=True, nulls_last=True, maintain_order=True
    )
    return StepContribution(data.step, frame, basis, reason)


def _join(trajectories: pl.DataFrame, updates: pl.DataFrame) -> pl.DataFrame:
    """Every trajectory with its last update; a trajectory known only from an update stays too."""
    if updates.is_empty():
        return trajectories
    keys = ["rank", "trajectory_id"]
    if trajectories.is_empty():
        return updates
    new = [name for name in updates.columns if name not in trajectories.columns]
    extra = updates.join(trajectories, on=keys, how="anti", maintain_order="left")
    joined = trajectories.join(
        updates.select(*keys, *new), on=keys, how="left", maintain_order="left"
    )
    return pl.concat([joined, extra], how="diagonal_relaxed") if len(extra) else joined
