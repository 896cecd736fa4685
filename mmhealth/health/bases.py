"""The bases of the effective sample size: importance weights, signal, contribution."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.health.rows import Array, Measured, Missing, Rows
from mmhealth.runlog import Run, StepData

Basis = Literal["weight", "signal", "contribution"]
BASES: tuple[Basis, ...] = ("weight", "signal", "contribution")

_ROUNDING = 1e-6
"""Nats that a weight may be off its logarithm for having been stored as float32."""
ON_POLICY = "on-policy: all log weights are 0, so the weight ESS is 100 % by construction"


def first_weighted(run: Run) -> tuple[int, int] | None:
    """Attempt and step, as lived, from which on a run has log weights that the loss uses.

    Hidden attempts count: the signal basis is fixed for a run, whatever became of a step.
    """
    return run.first_lived("log_weight") if _weighs(run.loss_ratio) else None


def other_basis(first: tuple[int, int] | None, attempt: int, step: int) -> str | None:
    """Why weights of 1 must not stand in at a step without log weights; None where they may.

    ``first`` is what `first_weighted` says.
    """
    if first is None or (attempt, step) < first:
        return None
    return (
        f"log_weight is not logged here, and was at step {first[1]}: weights of 1 in its place "
        "would be another basis"
    )


class Level:
    """Log weights at the level at which the loss forms its ratio."""

    def __init__(self, loss_ratio: str, data: StepData) -> None:
        self.loss_ratio = loss_ratio
        self._trajectories = data.trajectories
        self.weighs = _weighs(loss_ratio)
        """Whether the loss gives each trajectory a weight of its own."""
        self.has_weights = self.weighs and _has_values(data.updates, "log_weight")
        """Whether any row of the step has one."""

    def log_weights(self, rows: Rows, *, level: str | None = None) -> Array:
        """Per-trajectory log weights; non-finite ones other than -inf are left out."""
        level = level or self.loss_ratio
        if level == "none":
            raise Missing("the loss has no importance ratio")
        if level == "token":
            raise Missing("the loss has token ratios; a trajectory has no single weight")
        log_w = rows.numbers("log_weight")
        if level == "geometric":
            log_w = log_w / np.maximum(self.lengths(rows), 1)
        return log_w

    def lengths(self, rows: Rows) -> Array:
        """Tokens of each row's trajectory: its ``token_count``, or its ``length`` where some row
        has none."""
        reason = Missing("length is not logged")
        for column in ("token_count", "length"):
            if column not in self._trajectories.columns:
                continue
            found = rows.look_up(self._trajectories, column)
            try:
                return Rows(found.to_frame(), rows.what).numbers(column)
            except Missing as why:
                reason = why
        raise reason

    def signal_log_weights(self, rows: Rows) -> Array:
        """What the signal basis multiplies the advantages by: 0 where there are no weights.

        Weights of 1 stand in only where no row of the step has a weight. Weights that some rows
        lack are unknown: another basis must not slip in for them.
        """
        return self.log_weights(rows) if self.has_weights else np.zeros(len(rows))

    def as_multiplied(self, rows: Rows) -> Rows:
        """The same rows with the weight that the loss multiplied in place of the raw one.

        Truncation and the roles of a reserve show only there. Rows without it stay as they are.
        """
        frame = rows.frame
        if not self.has_weights or "weight_used" not in frame.columns:
            return rows
        used = frame["weight_used"].cast(pl.Float64)
        if used.null_count():
            return rows
        logs = used.log()
        if self.loss_ratio == "geometric":
            logs = logs * pl.Series(np.maximum(self.lengths(rows), 1))
        raw = frame["log_weight"].cast(pl.Float64)
        untouched = ((logs - raw).abs() <= _ROUNDING).fill_null(False)
        return Rows(frame.with_columns(log_weight=raw.zip_with(untouched, logs)), rows.what)

    def ess(self, rows: Rows) -> Measured:
        """Weight ESS as a fraction, at the loss's own level."""
        if self.loss_ratio == "token":
            return self.token_ess(rows)
        return weight_ess(self.log_weights(rows))

    def token_ess(self, rows: Rows) -> Measured:
        """Weight ESS over tokens, as a fraction of the tokens."""
        log_sum, log_sum_sq = rows.numbers("token_logsum_w"), rows.numbers("token_logsum_w2")
        lengths = self.lengths(rows)
        sums = estimators.EssSums.from_parts(lengths.astype(np.int64), log_sum, log_sum_sq)
        if np.allclose([log_sum, log_sum_sq], np.log(np.maximum(lengths, 1)), rtol=0, atol=1e-12):
            raise Missing(ON_POLICY)
        return Measured(sums.fraction(), len(rows))


def weight_ess(log_w: Array) -> Measured:
    """ESS of log weights as a fraction of the rows; not known on-policy."""
    if not np.any(log_w):
        raise Missing(ON_POLICY)
    return fraction(log_w)


@dataclass(frozen=True, slots=True)
class Counted:
    """ESS of some rows."""

    ess: float
    """A count of rows."""
    rows: int
    lost: int
    """Of the rows, those left out because their value is not finite."""

    def fraction(self, of: int = 0) -> Measured:
        """As a fraction of the rows that are known, or of ``of`` rows where those are more.

        Rows beyond those given weigh nothing.
        """
        rows = max(of, self.rows) - self.lost
        return Measured(self.ess / rows, rows)


def count_ess(log_w: Array) -> Counted:
    """ESS of log values. A value that is not finite (-inf is: a weight of zero) leaves its row out;
    where more than half are like that, the rest say nothing of the whole.
    """
    usable = known(log_w, ~(log_w < np.inf))
    return Counted(estimators.ess(usable), log_w.size, log_w.size - usable.size)


def fraction(log_w: Array, of: int = 0) -> Measured:
    """ESS of log values as `Counted.fraction` of the rows."""
    return count_ess(log_w).fraction(of)


def known(values: Array, lost: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """The values that are not lost; unknown altogether where more than half of them are."""
    if not lost.any():
        return values
    if 2 * int(lost.sum()) > values.size:
        raise Missing(f"{int(lost.sum())} of {values.size} rows are not finite")
    return np.asarray(values[~lost], np.float64)


def log_basis(basis: Basis, level: Level, rows: Rows) -> Array:
    """What the ESS of a basis is taken of, as logs; not for the weight basis of a token loss."""
    if basis == "weight":
        return level.log_weights(rows)
    if basis == "signal":
        return _signal(rows.numbers("advantage"), level.signal_log_weights(rows))
    norms = rows.numbers("grad_norm")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(norms)


def unsolved(values: Array, outcome: Array | None) -> Array:
    """The values of rows whose group is not solved."""
    if outcome is None:
        raise Missing("groups or outcomes are not logged")
    left = values[outcome < 1]
    if not left.size:
        raise Missing("every group is solved")
    return left


def signal_ceiling(rows: Rows, of: int = 0) -> Measured:
    """Signal ESS that these advantages would have with equal weights."""
    advantages = rows.numbers("advantage")
    return fraction(_signal(advantages, np.zeros_like(advantages)), of)


def _signal(advantages: Array, log_w: Array) -> Array:
    """Log of weight x |advantage|; NaN where either is not finite."""
    usable = np.isfinite(advantages) & (log_w < np.inf)
    if usable.all() and usable.size:
        return estimators.signal_log_weights(log_w, advantages)
    result = np.full(len(log_w), np.nan)
    if usable.any():
        result[usable] = estimators.signal_log_weights(log_w[usable], advantages[usable])
    return result


def _weighs(loss_ratio: str) -> bool:
    return loss_ratio not in ("none", "token")


def _has_values(frame: pl.DataFrame, column: str) -> bool:
    return column in frame.columns and frame[column].null_count() < len(frame)
