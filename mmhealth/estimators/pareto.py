"""Tail of the importance weights: the Pareto shape k-hat of PSIS.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance sampling", JMLR 25(72):
a generalised Pareto distribution is fitted to the largest weights (Zhang and Stephens, 2009, with
the paper's weakly informative prior). Moments of order 1/k and above do not exist.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, as_count, ascending, log_vector

MIN_TAIL = 5
"""Fewest weights a tail is fitted to; the tail of n <= 225 weights has n // 5."""
MIN_SPREAD = 1e-9
"""Nats between the largest weight and the cutoff below which a tail is rounding noise."""

_PRIOR_B = 3.0
_PRIOR_K = 0.5
_PRIOR_WEIGHT = 10.0
_EXP_LIMIT = 700.0
_HUGE = 1e100


def pareto_khat(log_weights: ArrayLike) -> float:
    """Pareto shape k-hat of the right tail of log weights (n,) in nats; see `khat_threshold`.

    The tail is the largest floor(min(n/5, 3 sqrt(n))) weights. Invariant to a constant added to all
    log weights; weights too far apart for float64 are fitted all the same, in log space.

    Raises EstimatorInputError for NaN or +inf, for n < 25, and where the shape is undefined: when
    the tail weights are equal to the cutoff (constant weights, as on-policy) or a quarter of them
    is tied with it.
    """
    ordered = ascending(log_vector(log_weights, "log_weights"))
    size = tail_size(ordered.size)
    if size < MIN_TAIL:
        raise EstimatorInputError(
            f"log_weights: {ordered.size} rows; a tail is fitted to {5 * MIN_TAIL} or more"
        )
    cutoff = float(ordered[-size - 1])
    tail = ordered[-size:]
    if not float(tail[-1]) - cutoff > MIN_SPREAD:  # also when both are -inf
        raise EstimatorInputError("log_weights: the largest weights are all equal, no tail to fit")
    log_exceedances = np.full(size, -np.inf)
    above = tail > cutoff
    with np.errstate(over="ignore"):
        gap = np.maximum(cutoff - tail[above], -_EXP_LIMIT)
    log_exceedances[above] = tail[above] + np.log(-np.expm1(gap))
    if log_exceedances[_quartile(size)] == -np.inf:
        raise EstimatorInputError(
            "log_weights: a quarter of the tail or more is tied with the weight below it"
        )
    return _fit_shape(log_exceedances)


def khat_threshold(n: int) -> float:
    """The k-hat from which n weights are unreliable: min(1 - 1/log10(n), 0.7).

    JMLR 25(72). Raises EstimatorInputError for n < 2.
    """
    if as_count(n, "n") < 2:
        raise EstimatorInputError("n: the threshold needs two weights or more")
    return min(1.0 - 1.0 / math.log10(n), 0.7)


def tail_size(n: int) -> int:
    """How many of n weights make the tail: floor(min(n/5, 3 sqrt(n)))."""
    return n // 5 if n <= 225 else math.isqrt(9 * n)


def _quartile(size: int) -> int:
    return int(size / 4 + 0.5) - 1


def _fit_shape(log_exceedances: FloatArray) -> float:
    """Shape of a generalised Pareto fitted to ascending log exceedances, prior included.

    The scale parameter b = -k/sigma is measured in units of the first quartile: nothing overflows.
    """
    n = log_exceedances.size
    with np.errstate(over="ignore"):
        log_x = log_exceedances - log_exceedances[_quartile(n)]
    log_x = np.clip(log_x, -_HUGE, _HUGE)
    grid = 30 + math.isqrt(n)
    b = (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / _PRIOR_B
    b += math.exp(max(-float(log_x[-1]), -_EXP_LIMIT))
    shape = _mean_log1p(b, log_x)
    # -b / shape tends to 1 / mean(x) as b vanishes
    near_zero = shape == 0.0
    slope = np.full_like(b, 1.0 / float(np.exp(np.minimum(log_x, _EXP_LIMIT)).mean()))
    np.divide(-b, shape, out=slope, where=~near_zero)
    log_posterior = n * (np.log(slope) - shape - 1)
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    posterior[posterior < 10 * np.finfo(np.float64).eps] = 0.0
    posterior /= posterior.sum()
    mean_b = np.array([float((b * posterior).sum())])
    khat = float(_mean_log1p(mean_b, log_x)[0])
    return (n * khat + _PRIOR_WEIGHT * _PRIOR_K) / (n + _PRIOR_WEIGHT)


def _mean_log1p(b: FloatArray, log_x: FloatArray) -> FloatArray:
    """Mean over x of log(1 - b x) for each b; for huge x, where b < 0, it is log(-b) + log x."""
    huge = log_x > _EXP_LIMIT
    x = np.exp(log_x[~huge])
    total = np.log1p(-b[:, None] * x).sum(axis=1)
    if huge.any():
        total += (np.log(-b)[:, None] + log_x[huge]).sum(axis=1)
    return np.asarray(total / log_x.size, dtype=np.float64)
