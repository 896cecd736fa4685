"""Which rows make a metric what it is: each metric as a sum of one part a row.

Log values (n,) are in nats; -inf is the value zero. With values x >= 0 and shares p = x / sum x:

- ``sum_parts``     p_i, which sum to 1;
- ``square_parts``  x_i^2 / sum x^2, which sum to 1: what each row holds of the ESS's denominator.
  1 / ESS = sum p_i^2 is additive over rows, and this is each row's share of it;
- ``gini_parts``    (2 rank_i - n - 1) x_i / (n sum x), which sum to the Gini coefficient;
- ``top_parts``     p_i of the largest rows, which sum to the top share.

Equal rows get equal parts: ranks are mid-ranks, and rows tied at the edge of the top share it.
Parts of a slice add up (`by_slice`), so what slices hold sums to the whole, in whatever order the
rows come. Nothing here says why a slice holds what it holds; `chance_of` bounds how likely it would
hold as much had the values been dealt at random.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import (
    FloatArray,
    finite_vector,
    log_vector,
    non_negative_vector,
    same_length,
)

IntArray = NDArray[np.int64]

_FINEST, _WIDEST, _GRID = 0.01, 5000.0, 1.5
"""Where `chance_of` tries t: from _FINEST over what the largest group holds to _FINEST * _WIDEST
over the mean part, each _GRID times the one before."""
_EXACT = 8192
"""Rows, those of the largest groups, for which `chance_of` takes the exact factor."""
_TINY = 1e-300
"""Least factor that `chance_of` takes: more than one that underflows, so the bound stays one."""


def sum_parts(log_values: ArrayLike) -> FloatArray:
    """Share of each row (n,) in the sum.

    Raises EstimatorInputError for empty input, NaN, +inf, or values that are all zero.
    """
    values = _scaled(log_values)
    return np.asarray(values / np.sort(values).sum(), np.float64)


def square_parts(log_values: ArrayLike) -> FloatArray:
    """Share of each row (n,) in the sum of squares, which is also its share of 1 / ESS.

    Raises EstimatorInputError for empty input, NaN, +inf, or values that are all zero.
    """
    squares = _scaled(log_values) ** 2
    return np.asarray(squares / np.sort(squares).sum(), np.float64)


def gini_parts(log_values: ArrayLike) -> FloatArray:
    """Part of each row (n,) in the Gini coefficient: they sum to `mmhealth.estimators.gini`.

    Negative below the middle rank: such a row makes the values more equal by what it holds.
    Raises EstimatorInputError for empty input, NaN, +inf, or values that are all zero.
    """
    values = _scaled(log_values)
    below, up_to, total = _places(values)
    return np.asarray((below + up_to - values.size) * values / (values.size * total), np.float64)


def top_parts(log_values: ArrayLike, fraction: float = 0.05) -> FloatArray:
    """What each row (n,) adds to the share of the largest `fraction` of rows in the sum.

    They sum to `mmhealth.estimators.top_share`; rows that are not among the largest add 0. Raises
    EstimatorInputError for empty input, NaN, +inf, values that are all zero, or a fraction outside
    (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise EstimatorInputError(f"fraction: {fraction} is not in (0, 1]")
    values = _scaled(log_values)
    below, up_to, total = _places(values)
    left = fraction * values.size - (values.size - up_to)
    return np.asarray(np.clip(left / (up_to - below), 0.0, 1.0) * values / total, np.float64)


def by_slice(parts: ArrayLike, slices: ArrayLike, count: int) -> FloatArray:
    """Sums (count,) of the parts (n,) of each slice; ``slices`` (n,) are numbers in [0, count).

    Summed in the order of the parts, so that the order of the rows changes no bit. Raises
    EstimatorInputError for parts that are not finite, or slices that do not fit.
    """
    values = finite_vector(parts, "parts")
    codes = _codes(slices, count, values)
    order = np.argsort(values)
    sums = np.bincount(codes[order], weights=values[order], minlength=count)
    return np.asarray(sums, np.float64)


def chance_of(
    parts: ArrayLike, slices: ArrayLike, count: int, groups: ArrayLike | None = None
) -> FloatArray:
    """Upper bound (count,) of the chance that a slice holds as much of the parts as it does.

    The parts (n,) are >= 0, ``slices`` (n,) are numbers in [0, count). Chance deals the parts to
    the rows at random. With ``groups`` (n,), numbers of the rows' groups, it deals what a group
    holds to a group at random, and there to its rows at random: parts that are alike within groups,
    in slices that are alike within groups, count for no more than the groups do. With p_g the share
    of group g's rows that are in the slice, the bound is the least, over some t > 0, of

        exp(-t held) prod_h mean_g prod_(i in h) (1 - p_g + p_g exp(t parts_i)).

    This is Chernoff's for groups h that draw a p_g each and whose rows are then in the slice
    independently. It holds for groups dealt without replacement, as each factor rises with p_g, and
    for fixed numbers of rows in groups of one size, as both are negatively associated (Joag-Dev and
    Proschan, 1983). Without groups every row is one. A single row that holds everything gives the
    slice's share of the rows, as it should. Raises EstimatorInputError for parts that are negative
    or not finite, or for slices or groups that do not fit.
    """
    values = non_negative_vector(parts, "parts")
    codes = _codes(slices, count, values)
    held, result = by_slice(values, codes, count), np.ones(count)
    if not values.any():
        return result
    if groups is None:
        order, group = np.argsort(values, kind="stable"), np.arange(values.size)
    else:
        group = _codes(groups, None, values, "groups")
        order = np.lexsort((values, group))
        group = np.unique(group[order], return_inverse=True)[1]
    values, codes, size = values[order], codes[order], np.bincount(group)
    totals = by_slice(values, group, size.size)
    scale = float(totals.max())
    values, totals, held = values / scale, totals / scale, held / scale
    steps = math.ceil(math.log(_WIDEST * values.size / values.sum(), _GRID))
    t = _FINEST * _GRID ** np.arange(steps)
    largest = np.argsort(-totals, kind="stable")
    exact = np.zeros(size.size, np.bool_)
    exact[largest[: max(1, int(np.searchsorted(size[largest].cumsum(), _EXACT, "right")))]] = True
    shares, profiles = _profiles(codes, count, group, size)
    rows = exact[group]
    decay = np.exp(-np.multiply.outer(t, values[rows]))
    starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
    with np.errstate(divide="ignore", over="ignore"):
        # prod_i (1 - p + p exp(t parts_i)) over exp(t total), which is at most 1
        factors = np.array(
            [np.exp(np.add.reduceat(np.log(p + (1 - p) * decay), starts, axis=1)) for p in shares]
        )
        # mean_g prod_i (1 + p_g x_i) - 1 <= mean_g p_g (prod_i (1 + x_i) - 1): convex in p_g
        rest = np.array([np.expm1(at * totals[~exact]).sum() for at in t])
        for profile in np.unique(profiles[profiles.any(axis=1)], axis=0):
            used = profile > 0
            mean = np.tensordot(profile[used], factors[used], axes=1)
            log_mean = np.log(np.maximum(mean, _TINY)).sum(axis=1) + t * totals[exact].sum()
            log_mean += profile @ shares * rest
            same = (profiles == profile).all(axis=1)
            log_bound = (log_mean[:, None] - np.multiply.outer(t, held[same])).min(axis=0)
            result[same] = np.exp(np.minimum(log_bound, 0.0))
    return result


def _profiles(
    codes: IntArray, count: int, group: IntArray, size: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Shares (shares,) that some slice has of a group's rows, 0 the first of them; and of how many
    groups, as a fraction, each slice has that share (count, shares)."""
    cells, rows = np.unique(codes * size.size + group, return_counts=True)
    of_group = np.append(0.0, rows / size[cells % size.size])
    shares, which = np.unique(of_group, return_inverse=True)
    place = cells // size.size * shares.size + which[1:]
    groups = np.bincount(place, minlength=count * shares.size).reshape(count, shares.size)
    present = groups.any(axis=1)
    groups[present, 0] = size.size - groups[present].sum(axis=1)
    return shares, groups / size.size


@dataclass(frozen=True, slots=True)
class Cells:
    """Pairs of slices of two columns that have rows in common; all arrays (cells,)."""

    first: IntArray
    second: IntArray
    rows: IntArray
    held: FloatArray
    """Sum of the cell's parts."""
    explained: FloatArray
    """What it would hold if the parts of its slice were spread evenly over the slice's rows, in
    that of the two columns which explains more."""


def cross(parts: ArrayLike, first: ArrayLike, second: ArrayLike) -> Cells:
    """What the cells of two columns hold, and how much of it either column explains by itself.

    ``first`` and ``second`` (n,) number the slices of the two columns from 0. Raises
    EstimatorInputError as `by_slice` does.
    """
    values = finite_vector(parts, "parts")
    columns = [_codes(column, None, values) for column in (first, second)]
    width = int(columns[1].max()) + 1
    cell = columns[0] * width + columns[1]
    found, rows = np.unique(cell, return_counts=True)
    held = by_slice(values, np.searchsorted(found, cell), found.size)
    places = (found // width, found % width)
    explained = np.full(found.size, -np.inf)
    for codes, place in zip(columns, places, strict=True):
        size = np.bincount(codes)
        of_slice = by_slice(values, codes, size.size)
        explained = np.maximum(explained, of_slice[place] * rows / size[place])
    return Cells(*places, rows, held, explained)


def _scaled(log_values: ArrayLike) -> FloatArray:
    """Values over the largest of them."""
    logs = log_vector(log_values, "log_values")
    top = float(logs.max())
    if top == -np.inf:
        raise EstimatorInputError("log_values: all values are zero, there is nothing to share")
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(logs - top), np.float64)


def _places(values: FloatArray) -> tuple[IntArray, IntArray, float]:
    """For each value how many are smaller, how many are not larger; and the sum of all."""
    ordered = np.sort(values)
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return below, up_to, float(ordered.sum())


def _codes(
    slices: ArrayLike, count: int | None, values: FloatArray, name: str = "slices"
) -> IntArray:
    codes = np.asarray(slices)
    if codes.dtype.kind not in "iu":
        raise EstimatorInputError(f"{name}: expected whole numbers, got dtype {codes.dtype}")
    same_length(values, codes, f"parts and {name}")
    if codes.min() < 0 or (count is not None and codes.max() >= count):
        raise EstimatorInputError(f"{name}: numbers outside [0, {count})")
    return codes.astype(np.int64, copy=False)
