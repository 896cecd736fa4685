"""What rows that hold nothing say of the population's ESS and Gini: exact at any number of groups.

A population in which the share p of the rows holds anything has an ESS fraction of at most p
(Cauchy-Schwarz: (E w)^2 <= p E w^2) and a Gini coefficient of at least 1 - p. Where groups have one
size, p is at most the share of the groups in which any row holds something, and that share has the
exact interval of Clopper and Pearson (1934). So these intervals need no central limit: they speak
when all but a few groups are dead, where a jackknife has nothing to go by.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import log_vector, non_negative_vector, same_length
from mmhealth.estimators.counts import clopper_pearson
from mmhealth.estimators.groups import group_codes
from mmhealth.estimators.intervals import PopulationInterval


def ess_interval_from_zeros(
    log_weights: ArrayLike, groups: ArrayLike, *, level: float = 0.9
) -> PopulationInterval:
    """Interval [0, high] of the population's ESS fraction, from log weights (n,) in nats.

    `groups` (n,): id of each row's prompt group, integers or text. The share of intervals that miss
    is at most (1 - `level`) / 2 for any population. With no row that holds nothing `high` is 1.

    Raises EstimatorInputError for NaN or +inf, empty input, lengths that differ, missing ids,
    groups of different size, or a level outside (0, 1).
    """
    logs = log_vector(log_weights, "log_weights")
    codes, high = _most_that_holds(logs > -np.inf, groups, level)
    return PopulationInterval(0.0, high, level, logs.size, int(codes.max()) + 1, True, "")


def gini_interval_from_zeros(
    values: ArrayLike, groups: ArrayLike, *, level: float = 0.9
) -> PopulationInterval:
    """Interval [low, 1] of the population's Gini coefficient from values (n,) >= 0, any unit.

    Otherwise as `ess_interval_from_zeros`; also raises for negative values.
    """
    sizes = non_negative_vector(values, "values")
    codes, high = _most_that_holds(sizes > 0, groups, level)
    return PopulationInterval(1 - high, 1.0, level, sizes.size, int(codes.max()) + 1, True, "")


def _most_that_holds(
    holds: NDArray[np.bool_], groups: ArrayLike, level: float
) -> tuple[NDArray[np.intp], float]:
    """Group of each row, and the most that the population's share of rows that hold can be."""
    codes = group_codes(groups)
    same_length(holds, codes, "rows and groups")
    rows = np.bincount(codes)
    if rows.min() != rows.max():
        raise EstimatorInputError(
            f"groups of {rows.min()} to {rows.max()} rows: the share of groups that hold something "
            "bounds the share of rows only where groups have one size"
        )
    holding = int((np.bincount(codes, weights=holds) > 0).sum())
    return codes, clopper_pearson(holding, rows.size, level)[1]
