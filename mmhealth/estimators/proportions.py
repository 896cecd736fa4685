"""The interval of a difference of two runs, as of their success rates."""

import math

from mmhealth.estimators.horizon import wilson_interval


def difference_interval(
    value: float, ends: tuple[float, float], other: float, other_ends: tuple[float, float]
) -> tuple[float, float]:
    """Interval (low, high) of ``value`` minus ``other``, from the interval of each.

    Square-and-add (Zou and Donner, 2008, "Construction of confidence limits about effect measures",
    Statistics in Medicine 27): at the level of the two, where these are independent; where they
    rise and fall together it is too long.
    """
    (low, high), (other_low, other_high) = ends, other_ends
    below = math.hypot(max(value - low, 0.0), max(other_high - other, 0.0))
    above = math.hypot(max(high - value, 0.0), max(other - other_low, 0.0))
    return value - other - below, value - other + above


def newcombe_interval(
    successes: int,
    episodes: int,
    other_successes: int,
    other_episodes: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval (low, high) of one success probability minus another's, within [-1, 1].

    Newcombe (1998), "Interval estimation for the difference between independent proportions",
    method 10: the square-and-add of the two Wilson score intervals, without continuity correction.
    Raises EstimatorInputError as `mmhealth.estimators.wilson_interval` does.
    """
    ends = wilson_interval(successes, episodes, confidence)
    other_ends = wilson_interval(other_successes, other_episodes, confidence)
    rate, other = successes / episodes, other_successes / other_episodes
    low, high = difference_interval(rate, ends, other, other_ends)
    return max(low, -1.0), min(high, 1.0)
