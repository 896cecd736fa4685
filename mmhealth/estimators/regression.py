"""The step at which held-out success has fallen back, and stays down."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, as_count, finite_vector, same_length

_MISS = 0.01
"""Chance that a run whose success stands still is said to fall, over all its windows together."""


def regression_step(
    steps: ArrayLike,
    successes: ArrayLike,
    episodes: ArrayLike,
    window: int = 15,
    drop: float = 0.05,
    *,
    lasting: bool = False,
) -> int | None:
    """First step from which mean held-out success lies ``drop`` or more below its best, and stays.

    ``steps`` (n,) are whole numbers, ``successes`` and ``episodes`` (n,) counts of the evaluation
    at each, in any row order. With the pooled rate M(u) over evaluations at steps
    u - window < step <= u, and the best P(t) = max M(u) over evaluated u <= t - window with a full
    window behind, the result is the first evaluated t such that at t, and at every evaluated step
    of the ``window`` steps that follow (which must lie within the record), P(t) - M is at least
    ``drop`` and z standard errors of the difference of two proportions. Every window is compared
    with the best of many, so z is the normal quantile at 0.01 over the number of pairs of windows
    that do not overlap (Bonferroni): 3.6 for 100 steps, 4.4 for 1,000. With ``lasting`` only a fall
    counts after which no M comes within ``drop`` of P(t) again.

    None when no step is such, or fewer than 3 windows of steps are there. Raises
    EstimatorInputError for empty or non-finite input, steps that are not whole, counts that no
    evaluation can have, lengths that differ, a window below 1 or a drop outside (0, 1).
    """
    when = finite_vector(steps, "steps")
    won, of = finite_vector(successes, "successes"), finite_vector(episodes, "episodes")
    same_length(when, won, "steps and successes")
    same_length(when, of, "steps and episodes")
    if (when != np.rint(when)).any() or (np.abs(when) > 2**53).any():
        raise EstimatorInputError("steps: expected whole numbers")
    if (of <= 0).any() or (won < 0).any() or (won > of).any():
        raise EstimatorInputError("successes: expected counts between 0 and those of episodes")
    if as_count(window, "window") < 1:
        raise EstimatorInputError("window: must be at least one step")
    if not 0.0 < drop < 1.0:
        raise EstimatorInputError(f"drop: {drop} is not in (0, 1)")
    order = np.argsort(when, kind="stable")
    when, won, of = when[order], won[order], of[order]
    points, rate, size = _pooled(when, won, of, window)
    sigmas = _sigmas(when[-1] - when[0] + 1, window)
    full = points >= when[0] + window - 1
    for at in np.flatnonzero(full & (points <= when[-1] - window)):
        past = full & (points <= points[at] - window)
        if not past.any():
            continue
        best = int(np.flatnonzero(past)[np.argmax(rate[past])])
        if lasting and (rate[best] - rate[at:] < drop).any():
            continue
        ahead = np.flatnonzero((points >= points[at]) & (points <= points[at] + window))
        fall = rate[best] - rate[ahead]
        if (fall >= np.maximum(drop, sigmas * _error(rate, size, best, ahead))).all():
            return int(points[at])
    return None


def _sigmas(span: float, window: int) -> float:
    windows = max(2.0, span / window)
    return NormalDist().inv_cdf(1.0 - _MISS / (windows * (windows - 1) / 2))


def _pooled(
    when: FloatArray, won: FloatArray, of: FloatArray, window: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct steps with the pooled rate and the episodes of the window that ends there."""
    points = np.unique(when)
    last = np.searchsorted(when, points, side="right")
    first = np.searchsorted(when, points - window, side="right")
    sums = [np.concatenate([[0.0], np.cumsum(counts)]) for counts in (won, of)]
    solved, played = (total[last] - total[first] for total in sums)
    return points, solved / played, played


def _error(rate: FloatArray, size: FloatArray, first: int, others: NDArray[np.intp]) -> FloatArray:
    """Standard errors of the differences of rates, a pooled rate taken for both of each."""
    both = size[first] + size[others]
    pooled = (rate[first] * size[first] + rate[others] * size[others]) / both
    variance = pooled * (1 - pooled) * (1 / size[first] + 1 / size[others])
    return np.asarray(np.sqrt(variance), np.float64)
