"""Quantiles of many values in little room: the DDSketch.

Source: Masson, Rim and Lee 2019, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", PVLDB 12(12). Buckets are spaced evenly in the logarithm, so a quantile
is known to a relative error. Nothing is collapsed: at 1 % all of float64 fits 71,000 buckets, of
which only those that hold something are kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray
from mmhealth.estimators.mean import exact_sum

ALPHA = 0.01
"""Relative error of a quantile."""
_LOG_GAMMA = math.log1p(ALPHA) - math.log1p(-ALPHA)
_LOG_MIDDLE = math.log1p(-ALPHA)
"""Of the value that is as far, relatively, from both ends of its bucket, to the upper end."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of values: counts are exact, quantiles of the finite ones within `ALPHA`."""

    count: int = 0
    """Finite values."""
    zero: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    total: float = 0.0
    """Sum of the finite values, rounded once where they were sketched at once."""
    least: float | None = None
    most: float | None = None
    above: Mapping[int, int] = field(default_factory=dict)
    """Values greater than zero by bucket: i holds those in (g^(i-1), g^i], g = (1+a)/(1-a)."""
    below: Mapping[int, int] = field(default_factory=dict)
    """Values less than zero, by the bucket of their magnitude."""

    def quantile(self, q: float) -> float | None:
        """The finite value of rank floor(q (count - 1)), counted from 0 in ascending order, within
        a relative error of `ALPHA`; None where there is none.

        That is ``numpy.quantile(values, q, method="lower")``. Raises EstimatorInputError for q
        outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise EstimatorInputError(f"quantile {q} is not between 0 and 1")
        if self.least is None or self.most is None:
            return None
        rank = math.floor(q * (self.count - 1))
        if rank in (0, self.count - 1):
            return self.most if rank else self.least
        for value, number in self._ascending():
            rank -= number
            if rank < 0:
                return min(max(value, self.least), self.most)
        return self.most

    def merge(self, other: "Sketch") -> "Sketch":
        """The sketch of the values of both."""
        lows = [s.least for s in (self, other) if s.least is not None]
        highs = [s.most for s in (self, other) if s.most is not None]
        return Sketch(
            self.count + other.count,
            self.zero + other.zero,
            self.nan + other.nan,
            self.posinf + other.posinf,
            self.neginf + other.neginf,
            self.total + other.total,
            min(lows, default=None),
            max(highs, default=None),
            _add(self.above, other.above),
            _add(self.below, other.below),
        )

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads; buckets as two lists, their numbers and counts."""
        content = {name: getattr(self, name) for name in _PLAIN}
        return content | {
            name: [list(held), list(held.values())]
            for name, held in (("above", self.above), ("below", self.below))
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Sketch":
        """What `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        above, below = (
            dict(zip(*content[name], strict=True)) if content[name][0] else {}
            for name in ("above", "below")
        )
        return Sketch(**{name: content[name] for name in _PLAIN}, above=above, below=below)

    def _ascending(self) -> list[tuple[float, int]]:
        low = [(-_middle(i), self.below[i]) for i in sorted(self.below, reverse=True)]
        return [*low, (0.0, self.zero), *((_middle(i), self.above[i]) for i in sorted(self.above))]


_PLAIN = ("count", "zero", "nan", "posinf", "neginf", "total", "least", "most")


def sketch(values: FloatArray) -> Sketch:
    """The sketch of values (n,) in any order; NaN and infinities are counted apart."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        empty = Sketch()
        return _with_odd(empty, values)
    return _with_odd(
        Sketch(
            count=int(finite.size),
            zero=int(np.count_nonzero(finite == 0)),
            total=_sum(finite),
            least=float(finite.min()),
            most=float(finite.max()),
            above=_buckets(finite[finite > 0]),
            below=_buckets(-finite[finite < 0]),
        ),
        values,
    )


def _with_odd(finite: Sketch, values: FloatArray) -> Sketch:
    odd = Sketch(
        nan=int(np.isnan(values).sum()),
        posinf=int(np.isposinf(values).sum()),
        neginf=int(np.isneginf(values).sum()),
    )
    return finite.merge(odd)


def _sum(finite: FloatArray) -> float:
    largest = float(abs(finite).max())
    if largest * finite.size < math.ldexp(1.0, 1000):
        return exact_sum(finite)
    scaled = exact_sum(finite / largest)
    return scaled * largest


def _buckets(magnitudes: FloatArray) -> dict[int, int]:
    numbers = np.ceil(np.log(magnitudes) / _LOG_GAMMA).astype(np.int64)
    held, counts = np.unique(numbers, return_counts=True)
    return dict(zip(held.tolist(), counts.tolist(), strict=True))


def _middle(bucket: int) -> float:
    """2 g^i / (g + 1): no value of the bucket is further off than `ALPHA` of itself."""
    log = bucket * _LOG_GAMMA + _LOG_MIDDLE
    return math.exp(log) if log < 709.0 else math.exp(709.0) * math.exp(log - 709.0)


def _add(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {i: one.get(i, 0) + other.get(i, 0) for i in sorted({*one, *other})}
