"""Outcome of groups: trajectories that share a prompt are all solved, all failed, or mixed.

With group-relative advantages (GRPO) only mixed groups carry a gradient.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, finite_vector, same_length


@dataclass(frozen=True, slots=True)
class GroupShares:
    """Number of groups, and the shares of them that are solved, failed and mixed (sum 1)."""

    groups: int
    solved: float
    failed: float
    mixed: float


def group_shares(group_ids: ArrayLike, success: ArrayLike) -> GroupShares:
    """Shares of groups that are solved (every row succeeded), failed (none did) or mixed.

    `group_ids` (n,): integers or text; `success` (n,): booleans, or numbers that are 0 or 1. A
    group of one row is solved or failed. Raises EstimatorInputError for empty input, lengths that
    differ, missing or incomparable ids, or another success.
    """
    return shares_and_outcome(group_ids, success)[0]


def group_outcome(group_ids: ArrayLike, success: ArrayLike) -> NDArray[np.int8]:
    """Outcome of each row's group (n,), int8: 1 solved, -1 failed, 0 mixed.

    Takes and raises what `group_shares` does.
    """
    return shares_and_outcome(group_ids, success)[1]


def shares_and_outcome(
    group_ids: ArrayLike, success: ArrayLike
) -> tuple[GroupShares, NDArray[np.int8]]:
    """What `group_shares` and `group_outcome` say, told at once."""
    outcome, group_of_row = _outcomes(group_ids, success)
    groups = outcome.size
    solved = int((outcome == 1).sum())
    failed = int((outcome == -1).sum())
    mixed = groups - solved - failed
    shares = GroupShares(groups, solved / groups, failed / groups, mixed / groups)
    return shares, outcome[group_of_row]


def group_codes(group_ids: ArrayLike) -> NDArray[np.intp]:
    """Number of each row's group (n,), from 0, in the order of the sorted ids.

    `group_ids` (n,): integers or text. Raises EstimatorInputError for missing or incomparable ids.
    """
    ids = np.asarray(group_ids)
    if ids.ndim != 1:
        raise EstimatorInputError(f"group_ids: expected one dimension, got shape {ids.shape}")
    if ids.dtype.kind in "fO" and any(_is_missing(value) for value in ids.tolist()):
        raise EstimatorInputError("group_ids: missing values; filter and count such rows first")
    if ids.dtype.kind in "iu" and ids.size and (ids[1:] >= ids[:-1]).all():
        return np.concatenate(([0], np.cumsum(ids[1:] != ids[:-1]))).astype(np.intp)
    try:
        _, codes = np.unique(ids, return_inverse=True)
    except TypeError as error:
        raise EstimatorInputError(f"group_ids: ids cannot be compared: {error}") from error
    return codes


def order_in_groups(codes: NDArray[np.intp], *keys: FloatArray) -> NDArray[np.intp]:
    """Rows (n,) by group, and in a group by the first of the ``keys`` (n,), then the next.

    ``codes`` (n,) as `group_codes` gives them. Sums over rows in this order do not depend on the
    order in which they came.
    """
    later, same = codes[1:] > codes[:-1], codes[1:] == codes[:-1]
    if (later | (same & (keys[0][1:] > keys[0][:-1]))).all():
        return np.arange(codes.size)
    order = np.argsort(keys[0])
    ordered = keys[0][order]
    if len(keys) > 1 and (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((*reversed(keys), codes))
    few = codes.astype(np.uint16) if codes.size and codes.max() < 1 << 16 else codes
    return np.asarray(order[np.argsort(few[order], kind="stable")], np.intp)


def _outcomes(
    group_ids: ArrayLike, success: ArrayLike
) -> tuple[NDArray[np.int8], NDArray[np.intp]]:
    """Outcome of each group, and the group of each row."""
    inverse = group_codes(group_ids)
    won = _flags(success)
    same_length(inverse, won, "group_ids and success")
    rows = np.bincount(inverse)
    wins = np.bincount(inverse, weights=won)
    outcome = np.zeros(rows.size, dtype=np.int8)
    outcome[wins == rows] = 1
    outcome[wins == 0] = -1
    return outcome, inverse


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _flags(success: ArrayLike) -> FloatArray:
    flags = finite_vector(success, "success")
    if not ((flags == 0) | (flags == 1)).all():
        raise EstimatorInputError("success: values other than 0 and 1")
    return flags
