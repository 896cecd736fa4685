"""What each trajectory weighs in the minimum-variance baseline of its group."""

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, finite_vector, non_negative_vector, same_length
from mmhealth.estimators.groups import group_codes, order_in_groups


def baseline_weights(norms: ArrayLike, advantages: ArrayLike, groups: ArrayLike) -> FloatArray:
    """Weights (n,) of the rewards in the baseline of least variance; each group's sum to 1.

    The gradient of the term -w A log pi has the norm a = w |A| g, g that of the score grad log pi.
    The constant baseline b of a group that makes sum w^2 g^2 (r - b)^2 least weighs rewards by
    w^2 g^2 = a^2 / A^2 (Greensmith, Bartlett & Baxter 2004, JMLR 5; with importance weights VCPO,
    arXiv 2602.17616): ``norms`` (n,) >= 0 are a, in any unit, with the weight w in them. A factor
    common to a group (a division by its standard deviation) changes nothing. A group whose norms
    are all 0 has equal weights. `mmhealth.interventions.minimum_variance_baseline` is the fix.

    Raises EstimatorInputError for advantages of 0, which hide g; empty or non-finite input,
    negative norms, lengths that differ, or missing ids in ``groups`` (n,).
    """
    sizes = non_negative_vector(norms, "norms")
    scales = np.abs(finite_vector(advantages, "advantages"))
    codes = group_codes(groups)
    same_length(sizes, scales, "norms and advantages")
    same_length(sizes, codes, "norms and groups")
    if not scales.all():
        raise EstimatorInputError("advantages: 0 in some rows, which hides the norm of their score")
    with np.errstate(divide="ignore"):
        logs = np.log(sizes) - np.log(scales)
    order = order_in_groups(codes, sizes, scales)
    counts = np.bincount(codes)
    top = np.maximum.reduceat(logs[order], np.cumsum(counts) - counts)
    top = np.where(np.isfinite(top), top, 0.0)
    squares = np.exp(2 * (logs - top[codes]))
    total = np.bincount(codes[order], weights=squares[order])
    equal = (1 / counts)[codes]
    held = total[codes]
    return np.asarray(np.divide(squares, held, out=equal, where=held > 0), np.float64)
