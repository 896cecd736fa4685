"""Effective sample size (ESS) of importance weights, and the partial sums it is merged from.

ESS = (sum w)^2 / sum w^2 (Kong, 1992; Kish, 1965), always a count of rows: n for equal weights, 1
when a single row carries everything. Log weights are in nats; -inf is the weight zero.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import (
    FloatArray,
    as_count,
    ascending,
    finite_vector,
    log_vector,
    same_length,
)

_ROUNDING = 1e-2
"""Slack in nats before two sums count as contradictory: they may have been stored as float32."""


def ess(log_weights: ArrayLike) -> float:
    """Effective sample size of log weights (n,) in nats, as a count in [1, n].

    Invariant to a constant added to all log weights. If all weights are zero no row contributes
    and the result is 0.0. Raises EstimatorInputError for empty input, NaN or +inf.
    """
    scaled, _ = _scaled_weights(log_vector(log_weights, "log_weights"))
    if scaled[-1] == 0.0:
        return 0.0
    total = float(scaled.sum())
    return min(max(total * total / float((scaled * scaled).sum()), 1.0), float(scaled.size))


def signal_log_weights(log_weights: ArrayLike, advantages: ArrayLike) -> FloatArray:
    """Log of weight x |advantage| for each row (n,), nats: the *signal* basis of ESS.

    A zero advantage carries no signal: -inf. Raises EstimatorInputError for NaN or infinite
    advantages, NaN or +inf log weights, empty input, or lengths that differ.
    """
    logs = log_vector(log_weights, "log_weights")
    size = np.abs(finite_vector(advantages, "advantages"))
    same_length(logs, size, "log_weights and advantages")
    with np.errstate(divide="ignore"):
        return np.asarray(logs + np.log(size), np.float64)


@dataclass(frozen=True, slots=True)
class EssSums:
    """Sums that give the ESS and can be merged over ranks, microbatches or trajectories.

    `count` rows; `log_sum` = log sum w and `log_sum_sq` = log sum w^2 in nats, -inf for no weight.
    Merged sums give the ESS of all rows together; an average of several ESS does not.
    Raises EstimatorInputError for sums that no weights can have.
    """

    count: int
    log_sum: float
    log_sum_sq: float

    def __post_init__(self) -> None:
        as_count(self.count, "count")
        for name, value in (("log_sum", self.log_sum), ("log_sum_sq", self.log_sum_sq)):
            if math.isnan(value) or value == math.inf:
                raise EstimatorInputError(f"{name}: {value}; filter and count such rows first")
        if self.log_sum == -math.inf or self.log_sum_sq == -math.inf:
            if self.log_sum != self.log_sum_sq:
                raise EstimatorInputError("log_sum and log_sum_sq: one is -inf, the other is not")
            return
        log_ess = 2 * self.log_sum - self.log_sum_sq
        slack = _ROUNDING + 1e-6 * abs(self.log_sum)
        if self.count == 0 or not -slack <= log_ess <= math.log(self.count) + slack:
            raise EstimatorInputError(
                f"log_sum {self.log_sum} and log_sum_sq {self.log_sum_sq} cannot be the sums of "
                f"{self.count} weights: their ESS would be exp({log_ess:.6g})"
            )

    @classmethod
    def from_log_weights(cls, log_weights: ArrayLike) -> Self:
        """Sums of log weights (n,), nats. No rows give the neutral element of `merge`.

        Raises EstimatorInputError for NaN or +inf.
        """
        logs = log_vector(log_weights, "log_weights", allow_empty=True)
        if logs.size == 0:
            return cls(0, -math.inf, -math.inf)
        scaled, top = _scaled_weights(logs)
        if scaled[-1] == 0.0:
            return cls(logs.size, -math.inf, -math.inf)
        square = float((scaled * scaled).sum())
        return cls(logs.size, top + math.log(float(scaled.sum())), 2 * top + math.log(square))

    @classmethod
    def from_parts(cls, counts: ArrayLike, log_sums: ArrayLike, log_sums_sq: ArrayLike) -> Self:
        """Merge partial sums given as columns (k,), one entry a part; see `merge`.

        Raises EstimatorInputError for NaN, +inf, counts that are not whole, differing lengths, or
        sums that no weights can have (checked once merged, not part by part).
        """
        sizes = np.asarray(counts)
        if sizes.size and sizes.dtype.kind not in "iu":
            raise EstimatorInputError(f"counts: expected whole numbers, got dtype {sizes.dtype}")
        if sizes.size and int(sizes.min()) < 0:
            raise EstimatorInputError("counts: negative values")
        logs = log_vector(log_sums, "log_sums", allow_empty=True)
        squares = log_vector(log_sums_sq, "log_sums_sq", allow_empty=True)
        same_length(logs, sizes, "log_sums and counts")
        same_length(logs, squares, "log_sums and log_sums_sq")
        return cls(int(sizes.sum()), _log_sum_exp(logs), _log_sum_exp(squares))

    @classmethod
    def merge(cls, *parts: "EssSums") -> Self:
        """Sums over all parts together; the order of the parts does not matter."""
        return cls.from_parts(
            np.array([part.count for part in parts], dtype=np.int64),
            [part.log_sum for part in parts],
            [part.log_sum_sq for part in parts],
        )

    @property
    def ess(self) -> float:
        """Effective sample size, a count in [1, count]; 0.0 when all weights are zero.

        Agrees with `ess` to about 1e-15 times the largest absolute log weight. Raises
        EstimatorInputError when there are no rows.
        """
        if self.count == 0:
            raise EstimatorInputError("no rows: their effective sample size is undefined")
        if self.log_sum == -math.inf:
            return 0.0
        log_ess = min(max(2 * self.log_sum - self.log_sum_sq, 0.0), math.log(self.count))
        return min(math.exp(log_ess), float(self.count))

    def fraction(self, of: int | None = None) -> float:
        """ESS over the number of rows, or over `of` rows, such as the nominal batch.

        Above 1 only if `of` is smaller than the ESS. Raises EstimatorInputError when there are no
        rows or `of` is not positive.
        """
        base = self.count if of is None else as_count(of, "of")
        if base == 0 and of is not None:
            raise EstimatorInputError("of: must be positive")
        return self.ess / base


def _scaled_weights(logs: FloatArray) -> tuple[FloatArray, float]:
    """Weights over the largest of them, ascending, and the log of the largest; zeros if all are."""
    ordered = ascending(logs)
    top = float(ordered[-1])
    if top == -math.inf:
        return np.zeros_like(ordered), top
    with np.errstate(over="ignore"):
        return np.exp(ordered - top), top


def _log_sum_exp(logs: FloatArray) -> float:
    if logs.size == 0:
        return -math.inf
    scaled, top = _scaled_weights(logs)
    return top if top == -math.inf else top + math.log(float(scaled.sum()))
