"""The step at which held-out success has fallen back, and stays down."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, as_count, finite_vector, same_length

_SIGMAS = 3.0
"""Standard errors of the difference that a fall must exceed: evaluations are samples."""


def regression_step(
    steps: ArrayLike,
    successes: ArrayLike,
    episodes: ArrayLike,
    window: int = 15,
    drop: float = 0.05,
) -> int | None:
    """First step from which mean held-out success lies ``drop`` or more below its best, for good.

    ``steps`` (n,) are whole numbers, ``successes`` and ``episodes`` (n,) counts of the evaluation
    at each, in any row order. With the pooled rate M(u) over evaluations at steps
    u - window < step <= u, and the best P(t) = max M(u) over evaluated u <= t - window with a full
    window behind, the result is the first evaluated t for which P(t) - M(t) is at least ``drop``
    and three standard errors (two proportions), and stays at least ``drop`` at every evaluated
    step of the ``window`` steps that follow, which must lie within the record.

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
    full = points >= when[0] + window - 1
    for at in np.flatnonzero(full & (points <= when[-1] - window)):
        past = full & (points <= points[at] - window)
        if not past.any():
            continue
        best = np.flatnonzero(past)[int(np.argmax(rate[past]))]
        ahead = (points >= points[at]) & (points <= points[at] + window)
        lasting = bool((rate[best] - rate[ahead] >= drop).all())
        if lasting and rate[best] - rate[at] >= _SIGMAS * _error(rate, size, int(best), int(at)):
            return int(points[at])
    return None


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


def _error(rate: FloatArray, size: FloatArray, first: int, second: int) -> float:
    """Standard error of the difference of two rates, their pooled rate taken for both."""
    pooled = (rate[first] * size[first] + rate[second] * size[second]) / (
        size[first] + size[second]
    )
    return math.sqrt(pooled * (1 - pooled) * (1 / size[first] + 1 / size[second]))
