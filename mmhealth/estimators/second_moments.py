"""Second moments of gradients by slice: which part of the trajectories makes the step noisy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.estimators.checks import FloatArray, non_negative_vector
from mmhealth.estimators.decomposition import IntArray, by_slice, square_parts


@dataclass(frozen=True, slots=True, eq=False)
class SecondMoments:
    """What each slice (slices,) holds of sum |G_i|^2."""

    rows: IntArray
    mean_square: FloatArray
    """Mean |G_i|^2 of its rows, in the unit of the norms squared; NaN never: 0 of no rows."""
    share: FloatArray
    """Of sum |G_i|^2; they sum to 1."""
    share_of_rows: FloatArray
    """Of the rows; they sum to 1. A slice whose ``share`` is larger has the larger gradients."""


def second_moments(norms: ArrayLike, slices: ArrayLike, count: int) -> SecondMoments:
    """Second moments of gradients with the norms (n,) >= 0, by slice.

    ``slices`` (n,): number of each row's slice in [0, count). With a mean gradient that is small
    against the noise, mean |G_i|^2 is tr Sigma of the slice (see `noise`).

    Raises EstimatorInputError for empty, negative or non-finite norms, norms that are all 0,
    lengths that differ, or numbers of slices that are not whole or not below ``count``.
    """
    sizes = non_negative_vector(norms, "norms")
    with np.errstate(divide="ignore"):
        share = by_slice(square_parts(np.log(sizes)), slices, count)
    rows = np.bincount(np.asarray(slices), minlength=count)
    largest = float(sizes.max())
    square = float((np.sort(sizes / largest) ** 2).sum())
    mean = share * square / np.maximum(rows, 1) * largest * largest
    return SecondMoments(rows, mean, share, rows / sizes.size)
