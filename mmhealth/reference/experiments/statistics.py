"""What seeds say together: mean, range, and the interval of a paired difference."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95
"""Of the interval of a paired difference."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and range over seeds."""

    seeds: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a difference paired by seed, and its Student-t interval."""

    seeds: int
    mean: float
    low: float | None
    """None: insufficient data, fewer than two seeds."""
    high: float | None
    smallest: float
    """Of the differences of single seeds."""

    @property
    def better(self) -> bool | None:
        """The interval lies above 0; None: insufficient data."""
        return None if self.low is None else self.low > 0

    @property
    def not_worse(self) -> bool | None:
        """The interval does not lie below 0 as a whole; None: insufficient data."""
        return None if self.high is None else self.high >= 0


def summarise(values: Iterable[float]) -> Summary | None:
    """Mean and range; None for no values."""
    known = list(values)
    return Summary(len(known), fmean(known), min(known), max(known)) if known else None


def paired(arm: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """``arm - other`` over the seeds that both have; None where they share none."""
    gaps = [arm[seed] - other[seed] for seed in sorted(arm.keys() & other.keys())]
    if not gaps:
        return None
    mean, count = fmean(gaps), len(gaps)
    if count < 2:
        return Difference(count, mean, None, None, min(gaps))
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(gaps) / math.sqrt(count)
    return Difference(count, mean, mean - half, mean + half, min(gaps))
