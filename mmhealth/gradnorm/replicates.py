"""The error of sampled norms: what they would be without one part of the sample, part by part.

A sketch averages columns, a sampled step weighs up some layers or knows some trajectories. Each is
a sample of parts (columns, layers, trajectories), and the spread of what is found when each part
in turn is left out gives the error of anything computed from the norms: the jackknife, with

    se^2 = sum over strata (1 - f) (n - 1) / n sum_j (without_j - their mean)^2
    bias = sum over strata (1 - f) (n - 1) (mean of without_j - all)

for n parts drawn of a stratum, f the share of it that they are (0: of infinitely many). Of a linear
statistic se^2 is the usual unbiased estimate for sampling without replacement (Wolter, 2007,
*Introduction to Variance Estimation*, 2nd ed., ch. 4). Of a smooth statistic the bias left after
correction is of second order in 1 / n.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmhealth.errors import GradNormError
from mmhealth.estimators.jackknife import student_t

_MANY = 1e6
"""Degrees of freedom that are as good as endlessly many."""

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]
"""A number of some (n,) norms: a Gini coefficient, the ESS as a fraction of the rows."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of measured norms, with what measuring less than everything does to it."""

    value: float
    """The statistic of the norms as they are reported."""
    standard_error: float
    bias: float
    """By how much ``value`` is expected to be too large. Reported, not taken off: noise in the
    norms lifts a Gini coefficient and lowers an ESS."""
    freedom: float = math.inf
    """Degrees of freedom of the standard error (Satterthwaite, 1946)."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval of nominal coverage ``level``: Student's t about ``value``."""
        if self.freedom < 2:  # Cauchy's, the widest
            reach = math.tan(math.pi * level / 2)
        else:
            reach = student_t(level, min(self.freedom, _MANY))
        reach *= self.standard_error
        return self.value - reach, self.value + reach

    @property
    def corrected(self) -> float:
        """``value`` without its estimated bias."""
        return self.value - self.bias


@dataclass(frozen=True, slots=True)
class Stratum:
    """Norms without each of the parts drawn from one stratum."""

    without: Sequence[Floats]
    """Norms without part j, for each of n >= 2 parts."""
    share: float = 0.0
    """Share of the stratum that was drawn, 0 where it has no end."""


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """Norms as measured and as they would be without each part of the sample."""

    norms: Floats
    """(n,): what statistics are of."""
    strata: Sequence[Stratum] = ()
    """None where everything was measured."""

    def error_of(self, statistic: Statistic) -> Estimate:
        """Jackknife of a statistic; raises `GradNormError` where it is not finite.

        The statistic's own errors pass, such as that of a Gini coefficient of nothing but zeros.
        """
        value = _finite(statistic(self.norms))
        variance = bias = spread = 0.0
        for stratum in self.strata:
            values = np.array([_finite(statistic(norms)) for norms in stratum.without])
            square, shift = _moments(values, np.float64(value), stratum.share)
            variance += float(square)
            spread += float(square) ** 2 / (len(values) - 1)
            bias += float(shift)
        freedom = variance**2 / spread if spread else math.inf
        return Estimate(value, math.sqrt(variance), bias, freedom)

    def standard_errors(self) -> Floats:
        """(n,) standard error of each norm, where every replicate has all of them."""
        variance = np.zeros_like(self.norms)
        for stratum in self.strata:
            variance += _moments(np.stack(stratum.without), self.norms, stratum.share)[0]
        return np.asarray(np.sqrt(variance), dtype=np.float64)


def _moments(
    without: Floats, whole: Floats | np.float64, share: float
) -> tuple[Floats | np.float64, Floats | np.float64]:
    """Variance and bias from (n, ...) values without each part."""
    n, mean = len(without), without.mean(0)
    unseen = 1.0 - share
    return unseen * (n - 1) / n * ((without - mean) ** 2).sum(0), unseen * (n - 1) * (mean - whole)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise GradNormError(f"the statistic of the norms is {value}: it has no standard error")
    return float(value)
