"""Intervals of the population's ESS fraction and Gini coefficient.

The ESS and Gini of a batch are exact. Those of its *population*, the limit of infinitely many rows
from the same policy, are not known: the ESS fraction (E w)^2 / E w^2 = 1 / (1 + cv^2), where cv is
the coefficient of variation of w, and the Gini coefficient E|x - y| / (2 E x). Their intervals are
jackknifed by group, on the scales -log cv^2 and logit (see `jackknife`).

No interval is honest for every population: a weight so rare that no row shows it can change
everything. An interval is *reliable* when nothing in the rows speaks against it; `why` says what
does. The tail is judged by what is averaged: w^2 for the ESS (whose tail index is twice that of w),
x for Gini.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, log_vector, non_negative_vector, same_length
from mmhealth.estimators.groups import group_codes
from mmhealth.estimators.jackknife import MIN_GROUPS, Jackknife
from mmhealth.estimators.pareto import pareto_khat

ENOUGH_GROUPS = 20
"""Fewest groups for an interval by group (Cameron and Miller, 2015: "few" may be up to 50)."""
MIN_WORTH = 128
"""Fewest independent rows whose k-hat betrays a tail without E w^2 19 times in 20."""
MAX_KHAT = 0.5
"""Pareto shape of what is averaged from which its variance is infinite: no central limit."""
MAX_SHARE = 0.8
"""Largest share of the interval's variance that a single group may hold."""
MAX_TIED_SHARE = 0.1
"""The same where weights are tied, so that no tail can be fitted: ten rows of the rarest value."""

_EQUAL = 1e-9
"""Spread, relative to the values, that is rounding noise."""

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PopulationInterval:
    """Interval [low, high] within [0, 1] of nominal coverage `level`, from n rows in `groups`.

    `why` is the reason, in a sentence, for which the interval is not `reliable`; else empty.
    """

    low: float
    high: float
    level: float
    n: int
    groups: int
    reliable: bool
    why: str


def ess_interval(
    log_weights: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.9
) -> PopulationInterval:
    """Interval of the population's ESS fraction, (E w)^2 / E w^2, from log weights (n,) in nats.

    `groups` (n,): id of each row's prompt group, integers or text; None: rows are independent.
    Invariant to a constant added to all log weights. Where E w^2 is infinite the fraction is 0,
    which no interval covers: such populations are for `reliable` to name.

    Raises EstimatorInputError for NaN or +inf, empty input, lengths that differ, missing ids, fewer
    than three groups, a level outside (0, 1), or if all weights are zero.
    """
    logs = log_vector(log_weights, "log_weights")
    order, codes = _ascending(logs, groups, "log_weights")
    if logs[order[-1]] == -math.inf:
        raise EstimatorInputError("log_weights: all weights are zero, their ESS has no population")
    with np.errstate(over="ignore"):
        ordered = logs[order]
        weights = np.exp(ordered - ordered[-1])
        tail = 2 * (ordered - ordered[-1])
    return _interval(_ess_jackknife, weights, codes, tail, level, when_equal=1.0)


def gini_interval(
    values: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.9
) -> PopulationInterval:
    """Interval of the population's Gini coefficient from values (n,) >= 0, any unit.

    `groups` (n,): id of each row's prompt group, integers or text; None: rows are independent.

    Raises EstimatorInputError for negative or non-finite values, empty input, lengths that differ,
    missing ids, fewer than three groups, a level outside (0, 1), or if all values are zero.
    """
    sizes = non_negative_vector(values, "values")
    order, codes = _ascending(sizes, groups, "values")
    ordered = sizes[order]
    if ordered[-1] == 0.0:
        raise EstimatorInputError("values: all are zero, there is no total to be shared")
    ordered = ordered / ordered[-1]
    with np.errstate(divide="ignore"):
        tail = np.log(ordered)
    return _interval(_gini_jackknife, ordered, codes, tail, level, when_equal=0.0)


def _ascending(
    rows: FloatArray, groups: ArrayLike | None, name: str
) -> tuple[NDArray[np.intp], Codes]:
    """The order that sorts the rows, and the group of each row in that order.

    Sums over rows in this order do not depend on the order in which they came.
    """
    if groups is None:
        order = np.argsort(rows, kind="stable")
        codes: Codes = np.arange(rows.size)
    else:
        codes = group_codes(groups)
        same_length(rows, codes, f"{name} and groups")
        order = np.lexsort((codes, rows))
        codes = codes[order]
    found = int(codes.max()) + 1
    if found < MIN_GROUPS:
        raise EstimatorInputError(
            f"{name}: {found} group{'s'[: found > 1]} of rows; an interval needs {MIN_GROUPS}"
        )
    return order, codes


def _interval(
    jackknife_of: Callable[[FloatArray, Codes], Jackknife],
    rows: FloatArray,
    codes: Codes,
    tail: FloatArray,
    level: float,
    *,
    when_equal: float,
) -> PopulationInterval:
    """Interval from ascending rows; `tail` has the logs of what is averaged."""
    if not 0.0 < level < 1.0:
        raise EstimatorInputError(f"level: {level} is not in (0, 1)")
    n, groups = rows.size, int(codes.max()) + 1
    if rows[-1] - rows[0] <= _EQUAL:
        low = high = when_equal
        why = "all rows are equal: they say nothing of how the population varies"
    else:
        jackknife = jackknife_of(rows, codes)
        if jackknife.defined:
            low, high = (_logistic(end) for end in jackknife.interval(level))
            why = _doubt(jackknife, rows, codes, tail)
        else:
            low, high = 0.0, 1.0
            why = "without one of the groups the others would be all equal, or all zero"
    return PopulationInterval(low, high, level, n, groups, not why, why)


def _doubt(jackknife: Jackknife, rows: FloatArray, codes: Codes, tail: FloatArray) -> str:
    """What speaks against an interval, in a sentence; empty if nothing does."""
    groups = jackknife.without.size
    if groups < ENOUGH_GROUPS:
        return f"{groups} groups of rows, fewer than {ENOUGH_GROUPS}"
    worth = rows.size / _design_effect(rows, codes)
    if worth < MIN_WORTH:
        return f"the rows are worth {worth:.0f} independent ones, fewer than {MIN_WORTH}"
    limit = MAX_SHARE
    try:
        khat = pareto_khat(tail)
        if khat >= MAX_KHAT:
            return f"heavy tail: k-hat is {khat:.2f}, not below {MAX_KHAT}"
    except EstimatorInputError:
        limit = MAX_TIED_SHARE
    if jackknife.largest_share > limit:
        share = jackknife.largest_share
        one = "row" if groups == rows.size else "group of rows"
        return f"one {one} makes {share:.0%} of the interval's variance, more than {limit:.0%}"
    return ""


def _design_effect(rows: FloatArray, codes: Codes) -> float:
    """By how much rows that resemble those of their group are worth less (Kish, 1965); from 1 on.

    That of the mean rank: the variance ratio of heavy-tailed rows themselves says little.
    """
    rank = np.searchsorted(rows, rows, "left") + np.searchsorted(rows, rows, "right")
    centred = rank - rank.mean()
    by_group = _sums(codes, centred)
    return max(float((by_group**2).sum() / (centred**2).sum()), 1.0)


def _ess_jackknife(weights: FloatArray, codes: Codes) -> Jackknife:
    """-log cv^2 of ascending weights: 1 / (1 + exp(-it)) is the ESS fraction."""
    n, rows = weights.size, np.bincount(codes)
    # about the median, no difference below cancels: it is within one sd of the mean
    middle = weights[n // 2]
    centred = weights - middle
    first, second = (_sums(codes, centred**power) for power in (1, 2))

    def scale(count: FloatArray, total: FloatArray, square: FloatArray) -> FloatArray:
        variance = np.maximum(square - total**2 / count, 0.0) / (count - 1)
        mean = np.maximum(middle + total / count, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(2 * np.log(mean) - np.log(variance), dtype=np.float64)

    whole = scale(np.array(float(n)), np.array(first.sum()), np.array(second.sum()))
    return Jackknife(float(whole), scale(n - rows.astype(float), _others(first), _others(second)))


def _gini_jackknife(values: FloatArray, codes: Codes) -> Jackknife:
    """Logit of the Gini coefficient of ascending values, corrected for their number."""
    n, rows = values.size, np.bincount(codes)
    centred = values - values[n // 2]
    rank = np.arange(1, n + 1)
    pairs = float(((2 * rank - n - 1) * centred).sum())
    differences = (2 * rank - n) * centred + centred.sum() - 2 * np.cumsum(centred)
    by_group = np.argsort(codes, kind="stable")
    rank_within = rank - np.repeat(np.cumsum(rows) - rows, rows)
    spread = (2 * rank_within - np.repeat(rows, rows) - 1) * centred[by_group]
    pairs_without = pairs - _sums(codes, differences) + _sums(codes[by_group], spread)

    def scale(count: FloatArray, between: FloatArray, total: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = np.log(between) - np.log((count - 1) * total - between)
        return np.asarray(odds, dtype=np.float64)

    total = _sums(codes, values)
    whole = scale(np.array(float(n)), np.array(pairs), np.array(total.sum()))
    return Jackknife(float(whole), scale(n - rows.astype(float), pairs_without, _others(total)))


def _sums(codes: Codes, of_rows: FloatArray) -> FloatArray:
    """Sum of each group (groups,), in the order of the rows."""
    return np.asarray(np.bincount(codes, weights=of_rows), dtype=np.float64)


def _others(of_groups: FloatArray) -> FloatArray:
    """For each group the sum over all others, without subtracting: a huge one leaves no trace."""
    before = np.concatenate(([0.0], np.cumsum(of_groups)[:-1]))
    after = np.concatenate((np.cumsum(of_groups[::-1])[::-1][1:], [0.0]))
    return np.asarray(before + after, dtype=np.float64)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
