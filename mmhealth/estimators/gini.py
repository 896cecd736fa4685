"""Gini coefficient and Lorenz curve of non-negative contributions, such as gradient norms."""

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, ascending, non_negative_vector


def gini(values: ArrayLike, *, corrected: bool = False) -> float:
    """Gini coefficient of values (n,) >= 0: 0 for equal values, (n-1)/n when one row holds all.

    G = sum_i (2i - n - 1) x_(i) / (n sum x) over the ascending values, i from 1: the mean absolute
    difference over twice the mean. `corrected` multiplies by n/(n-1), so that the range is [0, 1]
    for every n (Deltas, 2003).

    Raises EstimatorInputError for empty, negative or non-finite input, for values that are all
    zero (nothing to be shared: inequality is undefined), and for one value if `corrected`.
    """
    ordered = ascending_over_largest(values)
    n = ordered.size
    if corrected and n == 1:
        raise EstimatorInputError("values: the corrected Gini coefficient needs two values")
    rank = np.arange(1, n + 1, dtype=np.float64)
    plain = float(((2 * rank - n - 1) * ordered).sum()) / (n * float(ordered.sum()))
    plain = min(max(plain, 0.0), (n - 1) / n)
    return min(plain * n / (n - 1), 1.0) if corrected else plain


def lorenz(values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Lorenz curve of values (n,) >= 0: (population_share, value_share), each (n + 1,) in [0, 1].

    Point i says which share of the total the i smallest values hold; from (0, 0) to (1, 1).
    Raises EstimatorInputError for empty, negative or non-finite input, or if all values are zero.
    """
    ordered = ascending_over_largest(values)
    population = np.arange(ordered.size + 1, dtype=np.float64) / ordered.size
    cumulative = np.concatenate(([0.0], np.cumsum(ordered)))
    return population, cumulative / cumulative[-1]


def ascending_over_largest(values: ArrayLike) -> FloatArray:
    """Ascending values (n,) over the largest of them, so that no sum overflows.

    Raises EstimatorInputError for empty, negative or non-finite input, or if all values are zero.
    """
    ordered = ascending(non_negative_vector(values, "values"))
    if ordered[-1] == 0.0:
        raise EstimatorInputError("values: all are zero, there is no total to be shared")
    return np.asarray(ordered / ordered[-1], dtype=np.float64)
