"""The difference of two proportions, as of the success rates of two runs."""

import math

from mmhealth.estimators.horizon import wilson_interval


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
    low, high = wilson_interval(successes, episodes, confidence)
    other_low, other_high = wilson_interval(other_successes, other_episodes, confidence)
    rate, other = successes / episodes, other_successes / other_episodes
    difference = rate - other
    below = math.hypot(rate - low, other_high - other)
    above = math.hypot(high - rate, other - other_low)
    return max(difference - below, -1.0), min(difference + above, 1.0)
