"""Exact bounds for what was counted: rare events in a stretch of steps, successes among runs."""

import math
from collections.abc import Callable

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import as_count

_HALVINGS = 200


def poisson_upper(count: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of the mean of a Poisson count: P(X <= count | bound) = 1 - confidence.

    Garwood (1936). With no event at all it is -log(1 - confidence), about 3 at 95 %. Raises
    EstimatorInputError for a negative count or a confidence outside (0, 1).
    """
    seen = as_count(count, "count")
    miss = 1.0 - _confidence(confidence)
    logs = [-math.lgamma(k + 1) for k in range(seen + 1)]

    def at_most(mean: float) -> float:
        terms = [k * math.log(mean) - mean + log for k, log in enumerate(logs)]
        top = max(terms)
        return math.exp(top) * math.fsum(math.exp(term - top) for term in terms)

    high = 10.0 + 2.0 * seen - 4.0 * math.log(miss)
    return _crossing(lambda mean: at_most(mean) > miss, 0.0, high)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval (low, high) of a proportion. Clopper and Pearson (1934).

    Covers at least ``confidence`` for every proportion. Raises EstimatorInputError for no trials,
    successes outside [0, trials], or a confidence outside (0, 1).
    """
    won, n = as_count(successes, "successes"), as_count(trials, "trials")
    if n == 0 or won > n:
        raise EstimatorInputError(f"{won} successes in {n} trials give no interval")
    miss = (1.0 - _confidence(confidence)) / 2.0
    low = 0.0 if won == 0 else _crossing(lambda p: _at_least(won, n, p) < miss, 0.0, 1.0)
    high = 1.0 if won == n else _crossing(lambda p: _at_least(won + 1, n, p) < 1 - miss, 0.0, 1.0)
    return low, high


def _at_least(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) of a binomial."""
    if not 0.0 < p < 1.0:
        return float(p >= 1.0)
    log_p, log_q = math.log(p), math.log1p(-p)
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * log_p
            + (trials - k) * log_q
        )
        for k in range(successes, trials + 1)
    )


def _crossing(is_below: Callable[[float], bool], low: float, high: float) -> float:
    """Where a monotone condition that holds at ``low`` stops holding, by bisection."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _confidence(value: float) -> float:
    if not 0.0 < value < 1.0:
        raise EstimatorInputError(f"confidence: {value} is not in (0, 1)")
    return value
