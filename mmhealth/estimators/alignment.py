"""How the gradients of trajectories stand to the gradient of the update that they add up to.

Of each trajectory i of one update: a_i = |G_i|, the norm of its gradient, and c_i, its cosine with
the whole update G = sum_i G_i. Nothing else is needed for |G|, since sum a_i c_i = G . G / |G|; but
then no row may be missing. Ratios alone are given: a common factor of all norms changes nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, finite_vector, non_negative_vector, same_length
from mmhealth.estimators.groups import group_codes

_ROUNDING = 1e-2
"""By how much a cosine may leave [-1, 1], or the sum of a_i c_i fall below 0 in units of sum a_i:
they may have been taken of low-precision gradients."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedRows:
    """Rows of complete updates, in an order that does not depend on theirs; norms over the largest.

    ``square`` and ``total`` are sum a_i^2 and |G| = sum a_i c_i of each update (updates,).
    """

    norms: FloatArray
    cosines: FloatArray
    codes: NDArray[np.intp]
    largest: float
    rows: FloatArray
    square: FloatArray
    total: FloatArray


def gradient_diversity(
    norms: ArrayLike, cosines: ArrayLike, updates: ArrayLike | None = None
) -> float:
    """Gradient diversity sum |G_i|^2 / |G|^2 (Yin et al. 2018, arXiv 1706.05699): >= 1/n.

    1/n where all gradients are the same, 1 where they are orthogonal, above it where they cancel.
    Times n it bounds the batches with which SGD makes as much of each row as with one row a step.
    ``norms`` (n,) >= 0 in any unit and ``cosines`` (n,) with the whole update, of *all* its rows;
    the cosine of a norm of 0 is not looked at. ``updates`` (n,): which update a row is of (integers
    or text; None: all of one); of several it is the ratio of the sums.

    Raises EstimatorInputError for empty or non-finite input, negative norms, lengths that differ,
    cosines that no update can have, norms that are all 0, or gradients that sum to nothing.
    """
    rows = aligned_rows(norms, cosines, updates)
    whole = float((rows.total**2).sum())
    if whole == 0.0:
        raise EstimatorInputError("cosines: the gradients sum to nothing, there is no update")
    return float(rows.square.sum()) / whole


def opposing_share(norms: ArrayLike, cosines: ArrayLike) -> float:
    """Share of sum |G_i| that points against the update, c_i < 0: in [0, 1].

    Takes and raises what `gradient_diversity` does, but asks for no complete update.
    """
    sizes, sides = _checked(norms, cosines)
    order = np.lexsort((sides, sizes))
    sizes = sizes[order]
    return float(sizes[sides[order] < 0].sum()) / float(sizes.sum())


def aligned_rows(norms: ArrayLike, cosines: ArrayLike, updates: ArrayLike | None) -> AlignedRows:
    """The rows checked, scaled and in order; see `gradient_diversity`."""
    sizes, sides = _checked(norms, cosines)
    codes = np.zeros(sizes.size, np.intp) if updates is None else group_codes(updates)
    same_length(sizes, codes, "norms and updates")
    order = np.lexsort((sides, sizes, codes))
    sizes, sides, codes = sizes[order], sides[order], codes[order]
    largest = float(sizes.max())
    sizes = sizes / largest
    total = np.bincount(codes, weights=sizes * sides)
    if (total < -_ROUNDING * np.bincount(codes, weights=sizes)).any():
        raise EstimatorInputError(
            "cosines: norms times cosines sum to less than 0, so these are not all rows of the "
            "update, or not its cosines"
        )
    return AlignedRows(
        norms=sizes,
        cosines=sides,
        codes=codes,
        largest=largest,
        rows=np.bincount(codes).astype(np.float64),
        square=np.asarray(np.bincount(codes, weights=sizes**2), np.float64),
        total=np.maximum(total, 0.0),
    )


def _checked(norms: ArrayLike, cosines: ArrayLike) -> tuple[FloatArray, FloatArray]:
    sizes = non_negative_vector(norms, "norms")
    raw = np.asarray(cosines)
    same_length(sizes, raw, "norms and cosines")
    sides = finite_vector(np.where(sizes > 0, raw, 0.0), "cosines")
    if (np.abs(sides) > 1 + _ROUNDING).any():
        raise EstimatorInputError("cosines: values outside [-1, 1]")
    if not sizes.any():
        raise EstimatorInputError("norms: all are zero, there is no update")
    return sizes, np.clip(sides, -1.0, 1.0)
