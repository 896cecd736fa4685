"""Arithmetic mean that the order of values cannot change."""

import math

from mmhealth.estimators.checks import FloatArray


def mean(values: FloatArray) -> float:
    """Mean of finite values (n,), n >= 1, from an exactly rounded sum; it cannot overflow."""
    largest = float(abs(values).max())
    if largest == 0.0:
        return 0.0
    return math.fsum((values / largest).tolist()) / values.size * largest
