"""Counts of NaN and infinities: shown wherever they occur, never silently dropped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.estimators.checks import as_floats


@dataclass(frozen=True, slots=True)
class NonFinite:
    """How many values are NaN, +inf and -inf."""

    nan: int
    posinf: int
    neginf: int

    @property
    def total(self) -> int:
        """Values that are not finite."""
        return self.nan + self.posinf + self.neginf


def count_nonfinite(values: ArrayLike) -> NonFinite:
    """Count NaN, +inf and -inf among values of any shape; no values give zeros.

    Raises EstimatorInputError if they are no numbers.
    """
    array = as_floats(values, "values")
    return NonFinite(
        nan=int(np.isnan(array).sum()),
        posinf=int((array == np.inf).sum()),
        neginf=int((array == -np.inf).sum()),
    )
