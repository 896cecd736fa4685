"""An interval from what an estimate becomes when one group of rows is left out: no random draw.

Rows of a group (trajectories of one prompt) are not independent, groups are. With the estimates
*without* each of G groups in turn (Shao and Tu, 1995, "The jackknife and bootstrap"):

    se^2 = (G - 1) / G * sum (without - mean)^2

A symmetric interval estimate +- t se is too short where the groups' influences are skewed, as heavy
weights make them, since the estimate and its se err together. Two corrections from the same
leave-one-out estimates lengthen it:

- t has the degrees of freedom that the kurtosis of the influences leaves to se^2 (Satterthwaite,
  1946), at most G - 1;
- each arm is the longer of the symmetric one and that of Hall's skewness-correcting transformation
  (Hall, 1992, "On the removal of skewness by transformation", J. R. Stat. Soc. B 54).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mmhealth.estimators.checks import FloatArray

MIN_GROUPS = 3
"""Fewest groups a jackknife is made of: with two, every sample has the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Jackknife:
    """An estimate on a scale without bounds, and the estimates without each group (groups,).

    Estimates that are not finite say that a group cannot be spared: the jackknife is not `defined`
    and has nothing else to tell.
    """

    estimate: float
    without: FloatArray

    @property
    def defined(self) -> bool:
        """Whether every estimate is finite."""
        return bool(np.isfinite(self.without).all())

    @property
    def variance(self) -> float:
        """Jackknife variance of the estimate."""
        groups = self.without.size
        return (groups - 1) / groups * float((self._influence() ** 2).sum())

    @property
    def largest_share(self) -> float:
        """Share of the variance that comes from the group with most of it; 0 of no variance."""
        square = self._influence() ** 2
        return float(square.max() / square.sum()) if square.any() else 0.0

    def interval(self, level: float) -> tuple[float, float]:
        """Interval (low, high) of nominal coverage `level` in (0, 1), on the estimate's scale."""
        if self.variance == 0.0:
            return self.estimate, self.estimate
        influence = self._influence()
        influence = influence / np.abs(influence).max()
        groups = influence.size
        square = float((influence**2).sum())
        skewness = float((influence**3).sum()) / square**1.5
        kurtosis = groups * float((influence**4).sum()) / square**2
        freedom = min(2 * groups / max(kurtosis - 1, 1e-9), groups - 1)
        t = student_t(level, freedom)
        se = math.sqrt(self.variance)
        return (
            self.estimate - se * max(t, _unskewed(t, skewness)),
            self.estimate - se * min(-t, _unskewed(-t, skewness)),
        )

    def _influence(self) -> FloatArray:
        """How much each group lifts the estimate (groups,); their mean is zero."""
        return np.asarray(self.without.mean() - self.without, dtype=np.float64)


def student_t(level: float, freedom: float) -> float:
    """The t within which Student's t lies with probability `level`, after Peizer and Pratt (1968).

    For two degrees of freedom or more, whole or not.
    """
    z = -NormalDist().inv_cdf((1 - level) / 2)
    stretch = (freedom - 5 / 6) / (freedom - 2 / 3 + 0.1 / freedom) ** 2
    return math.sqrt(freedom * math.expm1(z * z * stretch))


def _unskewed(x: float, skewness: float) -> float:
    """The studentised value whose transform by Hall's cubic is x.

    `skewness` is that of a mean: of its terms, over the root of their number; in [-1, 1].
    """
    if abs(skewness) < 1e-6:
        return x
    return 3 / skewness * (math.cbrt(1 + skewness * (x - skewness / 6)) - 1)
