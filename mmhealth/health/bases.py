"""The bases of the effective sample size: importance weights, signal, contribution."""

from typing import Literal

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.health.rows import Array, Missing, Rows, look_up

Basis = Literal["weight", "signal", "contribution"]
BASES: tuple[Basis, ...] = ("weight", "signal", "contribution")

ON_POLICY = "on-policy: all log weights are 0, so the weight ESS is 100 % by construction"


class Level:
    """Log weights at the level at which the loss forms its ratio."""

    def __init__(self, loss_ratio: str, trajectories: pl.DataFrame) -> None:
        self.loss_ratio = loss_ratio
        self._trajectories = trajectories

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
        """Tokens of each row's trajectory."""
        for column in ("token_count", "length"):
            if column in self._trajectories.columns:
                found = look_up(rows.frame, self._trajectories, column)
                return Rows(found.to_frame(), rows.what).numbers(column)
        raise Missing("length is not logged")

    def ess(self, rows: Rows) -> float:
        """Weight ESS as a fraction, at the loss's own level."""
        if self.loss_ratio == "token":
            return self.token_ess(rows)
        return weight_ess(self.log_weights(rows))

    def token_ess(self, rows: Rows) -> float:
        """Weight ESS over tokens, as a fraction of the tokens."""
        log_sum, log_sum_sq = rows.numbers("token_logsum_w"), rows.numbers("token_logsum_w2")
        lengths = self.lengths(rows)
        sums = estimators.EssSums.from_parts(lengths.astype(np.int64), log_sum, log_sum_sq)
        if np.allclose([log_sum, log_sum_sq], np.log(np.maximum(lengths, 1)), rtol=0, atol=1e-12):
            raise Missing(ON_POLICY)
        return sums.fraction()


def weight_ess(log_w: Array) -> float:
    """ESS of log weights as a fraction of the rows; not known on-policy."""
    if not np.any(log_w):
        raise Missing(ON_POLICY)
    return fraction(log_w)


def fraction(log_w: Array) -> float:
    """ESS as a fraction of the rows whose log weight is a number."""
    usable = log_w[~(np.isnan(log_w) | np.isposinf(log_w))]
    if not usable.size:
        raise Missing("no finite value")
    return estimators.ess(usable) / usable.size


def log_basis(basis: Basis, level: Level, rows: Rows) -> Array:
    """What the ESS of a basis is taken of, as logs; not for the weight basis of a token loss."""
    if basis == "weight":
        return level.log_weights(rows)
    if basis == "signal":
        advantages = rows.numbers("advantage")
        try:
            log_w = level.log_weights(rows)
        except Missing:
            log_w = np.zeros_like(advantages)
        usable = np.isfinite(advantages) & ~(np.isnan(log_w) | np.isposinf(log_w))
        result = np.full(len(log_w), np.nan)
        result[usable] = estimators.signal_log_weights(log_w[usable], advantages[usable])
        return result
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


def signal_ceiling(rows: Rows) -> float:
    """Signal ESS that these advantages would have with equal weights."""
    advantages = rows.numbers("advantage")
    advantages = advantages[np.isfinite(advantages)]
    return fraction(estimators.signal_log_weights(np.zeros_like(advantages), advantages))
