"""Which share of the total the largest rows hold."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import ascending, log_vector
from mmhealth.estimators.gini import ascending_over_largest


def top_share(values: ArrayLike, fraction: float = 0.05) -> float:
    """Share of the total of values (n,) >= 0 that the largest `fraction` of rows hold.

    One minus the Lorenz curve at 1 - fraction, interpolated linearly between rows: equal values
    give `fraction` itself, whatever n is. Raises EstimatorInputError for empty, negative or
    non-finite input, if all values are zero, or for a fraction outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise EstimatorInputError(f"fraction: {fraction} is not in (0, 1]")
    ordered = ascending_over_largest(values)
    n = ordered.size
    whole, part = divmod(fraction * n, 1.0)
    rows = min(int(whole), n)
    held = float(ordered[n - rows :].sum())
    if rows < n:
        held += part * float(ordered[n - rows - 1])
    return min(held / float(ordered.sum()), 1.0)


def max_weight_share(log_weights: ArrayLike) -> float:
    """Largest weight over the sum of all, for log weights (n,) in nats: in [1/n, 1].

    Raises EstimatorInputError for empty input, NaN or +inf, or if all weights are zero (-inf).
    """
    ordered = ascending(log_vector(log_weights, "log_weights"))
    if ordered[-1] == -math.inf:
        raise EstimatorInputError("log_weights: all weights are zero, there is nothing to share")
    with np.errstate(over="ignore"):
        return 1.0 / float(np.exp(ordered - ordered[-1]).sum())
