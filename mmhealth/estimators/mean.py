"""Sum and mean that the order of values cannot change."""

import math

import numpy as np

from mmhealth.estimators.checks import FloatArray

_LARGE = math.ldexp(1.0, 900)
"""From here on sums might overflow."""
_MOST_PASSES = 8
"""Each takes the next 30 bits or more of all values; what lies further apart is summed singly."""


def exact_sum(values: FloatArray) -> float:
    """Sum of finite values (n,), rounded once; n times the largest must not overflow.

    Bits above a common limit add up without error, pass by pass (Rump, Ogita and Oishi 2008, SIAM
    J. Sci. Comput. 31(1), algorithm 4.1); `math.fsum` adds what the passes give.
    """
    rest, parts = values, list[float]()
    for _ in range(_MOST_PASSES):
        largest = float(abs(rest).max(initial=0.0))
        if largest == 0.0:
            return math.fsum(parts)
        limit = math.frexp(largest)[1] + (rest.size + 1).bit_length()
        if limit > 1023 or limit < -900:
            break
        unit = math.ldexp(1.0, limit)
        high = (unit + rest) - unit
        parts.append(float(high.sum()))
        rest = rest - high
    return math.fsum([*parts, *rest.tolist()])


def mean(values: FloatArray) -> float:
    """Mean of finite values (n,), n >= 1, from an exactly rounded sum; it cannot overflow."""
    if float(abs(values).max()) < _LARGE:
        return exact_sum(values) / values.size
    return exact_sum(values / _LARGE) / values.size * _LARGE


def over_largest(values: FloatArray) -> FloatArray:
    """Values (n,) > 0 over a power of two, so that the largest is in [0.5, 1): without rounding."""
    exponent = math.frexp(float(values.max()))[1]
    return np.asarray(values * math.ldexp(1.0, min(-exponent, 1023)), np.float64)
