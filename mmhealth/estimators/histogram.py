"""Mergeable histogram of absolute token log-ratios on fixed edges: the source of step percentiles.

A histogram is an int64 vector of `LOG_RATIO_SLOTS_V1` counts: one slot for values below the first
edge (exact zeros among them), one for each bin [edge, next edge), one for values from the last edge
up, and last one for NaN and infinities. The edges never change; other edges would be a V2.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, as_floats

Histogram = NDArray[np.int64]

_PER_DECADE = 32
_DECADES = range(-6, 2)


def _edges() -> FloatArray:
    """10^(k/32), k from -192 to 64, correctly rounded: the same bits on every machine."""
    with localcontext() as context:
        context.prec = 40
        mantissas = [Decimal(10) ** (Decimal(k) / _PER_DECADE) for k in range(_PER_DECADE)]
        edges = [float(m.scaleb(decade)) for decade in _DECADES for m in mantissas]
    return np.array([*edges, 1e2])


LOG_RATIO_EDGES_V1 = _edges()
"""Edges of the bins (257,), nats: 1e-6 to 1e2, 32 bins a decade. Read-only."""
LOG_RATIO_EDGES_V1.flags.writeable = False
LOG_RATIO_SLOTS_V1 = LOG_RATIO_EDGES_V1.size + 2
"""Length of a histogram: underflow, 256 bins, overflow, non-finite."""
LOG_RATIO_RELATIVE_ERROR_V1 = 10 ** (1 / _PER_DECADE) - 1
"""Width of a bin over its lower edge, 7.5 %: bound of the relative error of a percentile."""


def log_ratio_histogram(log_ratios: ArrayLike) -> Histogram:
    """Histogram of |log-ratio| over tokens; `log_ratios` in nats, of any shape and sign.

    NaN and infinities are counted in the last slot, not dropped. No tokens give all zeros, the
    neutral element of `merge_histograms`. Raises EstimatorInputError if they are no numbers.
    """
    values = np.abs(as_floats(log_ratios, "log_ratios").ravel())
    is_finite = np.isfinite(values)
    slots = np.searchsorted(LOG_RATIO_EDGES_V1, values[is_finite], side="right")
    counts = np.bincount(slots, minlength=LOG_RATIO_SLOTS_V1).astype(np.int64)
    counts[-1] = values.size - int(is_finite.sum())
    return counts


def merge_histograms(*histograms: ArrayLike) -> Histogram:
    """Histogram of all tokens of all parts; exact, in any order.

    Raises EstimatorInputError for a part that is no V1 histogram.
    """
    total = np.zeros(LOG_RATIO_SLOTS_V1, dtype=np.int64)
    for part in histograms:
        total += _checked(part)
    return total


def histogram_percentile(counts: ArrayLike, q: float) -> float:
    """The q-th percentile, q in [0, 100], of the finite absolute log-ratios, nats.

    The value of rank ceil(q/100 x tokens), placed within its bin by logarithmic interpolation:
    off by at most `LOG_RATIO_RELATIVE_ERROR_V1` of it. Below 1e-6 the result is 0.0 (off by less
    than 1e-6); from 1e2 up it is 1e2, a lower bound.
    Raises EstimatorInputError for no V1 histogram, no finite token, or q outside [0, 100].
    """
    if not 0.0 <= q <= 100.0:
        raise EstimatorInputError(f"q: {q} is not in [0, 100]")
    cumulative = np.cumsum(_checked(counts)[:-1])
    tokens = int(cumulative[-1])
    if tokens == 0:
        raise EstimatorInputError("counts: no finite tokens")
    rank = min(max(math.ceil(q * tokens / 100.0 * (1 - 1e-12)), 1), tokens)
    slot = int(np.searchsorted(cumulative, rank, side="left"))
    if slot == 0:
        return 0.0
    if slot == LOG_RATIO_EDGES_V1.size:
        return float(LOG_RATIO_EDGES_V1[-1])
    before, through = int(cumulative[slot - 1]), int(cumulative[slot])
    within = (rank - before - 0.5) / (through - before)
    low, high = float(LOG_RATIO_EDGES_V1[slot - 1]), float(LOG_RATIO_EDGES_V1[slot])
    return low * math.exp(within * math.log(high / low))


def nonfinite_tokens(counts: ArrayLike) -> int:
    """Tokens whose log-ratio was NaN or infinite; EstimatorInputError for no V1 histogram."""
    return int(_checked(counts)[-1])


def _checked(counts: ArrayLike) -> Histogram:
    array = np.asarray(counts)
    if array.shape != (LOG_RATIO_SLOTS_V1,) or array.dtype.kind not in "iu":
        raise EstimatorInputError(
            f"counts: expected {LOG_RATIO_SLOTS_V1} whole numbers, "
            f"got shape {array.shape} of {array.dtype}"
        )
    result = array.astype(np.int64)
    if (result < 0).any():
        raise EstimatorInputError("counts: negative counts")
    return result
