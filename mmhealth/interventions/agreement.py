"""Agreement of raters: the intraclass correlation of a single rating.

ICC(1) of Shrout & Fleiss (1979), *Intraclass correlations: uses in assessing rater reliability*,
Psychological Bulletin 86(2), 420-428: one-way random effects, each row rated by raters of its own;
with unequal numbers of ratings in the usual analysis-of-variance form. Cost: one pass. Bias: it is
the share of variance that lies *between* the rows of this batch, so it falls when the policy's
rollouts become alike, though the raters are as good as before.
"""

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import as_numpy


def intraclass_correlation(ratings: npt.ArrayLike) -> float | None:
    """ICC(1) of ratings (rows, raters), NaN where none has arrived; at most 1, may be negative.

    Rows with fewer than two ratings say nothing of agreement and are left out. None when fewer than
    two rows remain or all ratings are equal. Raises ValueError for another shape or for infinities.
    """
    table = as_numpy(ratings).astype(np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"ratings: expected finite (rows, raters), got shape {table.shape}")
    table = table[(~np.isnan(table)).sum(1) >= 2]
    given = ~np.isnan(table)
    counts, total = given.sum(1), int(given.sum())
    if len(table) < 2 or np.nanmax(table) == np.nanmin(table):
        return None
    means = np.nanmean(table, axis=1)
    between = (counts * (means - np.nanmean(table)) ** 2).sum() / (len(table) - 1)
    within = np.nansum((table - means[:, None]) ** 2) / (total - len(table))
    ratings_a_row = (total - (counts**2).sum() / total) / (len(table) - 1)
    return float((between - within) / (between + (ratings_a_row - 1) * within))
