"""When a trend crosses a threshold, with an interval that knows of autocorrelated noise.

A line through the last values: the slope by Theil (1950) and Sen (1968), the level by Hodges and
Lehmann (1963), which a few wild values do not move. The interval is Fieller's (1954): all moments
at which a line that fits no worse could cross. Its standard errors are those of least squares times
pi / 3 in variance, for n' = n (1 - r) / (1 + r) independent values, where r is the lag-1
autocorrelation of the residuals, corrected for the bias that fitting a line gives it (about
-(2 + 4 r) / n). Where the values bend, only the later half of them is used, or nothing is said.
How often the interval holds is measured: docs/benchmarks/forecast_coverage.md.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, finite_vector, same_length

MIN_VALUES = 20
"""Fewest values a trend is fitted to."""
SIGNIFICANCE = 0.01
"""One-sided: how often a line may be called a trend where there is none."""
BEND = 0.05
"""Two-sided: how often a line may be called a bend."""

_LEAST_FREEDOM = 3.0
_RELATIVE_VARIANCE = math.pi / 3
_ROUNDING = 1e-12

NoForecast = Literal[
    "too few values",
    "already crossed",
    "no straight line",
    "no trend towards the threshold",
    "beyond the horizon",
]


@dataclass(frozen=True, slots=True)
class Crossing:
    """When a trend crosses a threshold, counted in steps from the last value, at least 0."""

    steps: float
    low: float
    high: float
    """The interval; beyond the horizon is possible here."""
    slope: float
    """Change a step."""
    values: int
    """The last values that the line goes through."""


def forecast_crossing(
    steps: ArrayLike,
    values: ArrayLike,
    threshold: float,
    *,
    falling: bool,
    horizon: float,
    confidence: float = 0.9,
) -> Crossing | NoForecast:
    """When the trend of `values` (n,) at ascending `steps` (n,) crosses `threshold`, or why not.

    `falling`: the threshold is crossed from above, else from below. A trend must be significant
    (`SIGNIFICANCE`) and cross within `horizon` steps. A line that fits significantly worse than a
    parabola (`BEND`) is drawn anew through the later half of the values, where those are enough.
    That the line goes on is an assumption that no interval covers.

    Raises EstimatorInputError for empty or non-finite input, lengths that differ, steps that do not
    ascend, or a confidence outside (0, 0.98].
    """
    when, course = finite_vector(steps, "steps"), finite_vector(values, "values")
    same_length(when, course, "steps and values")
    if not math.isfinite(threshold) or (np.diff(when) <= 0).any():
        raise EstimatorInputError("steps must ascend, and the threshold must be finite")
    if not 0.0 < confidence <= 1.0 - 2.0 * SIGNIFICANCE:
        raise EstimatorInputError(f"confidence: {confidence} is not in (0, {1 - 2 * SIGNIFICANCE}]")
    if when.size < MIN_VALUES:
        return "too few values"
    sign = 1.0 if falling else -1.0
    line, half = _Line.fit(when, sign * course), when.size // 2
    if line.bends and when.size - half >= MIN_VALUES:
        line = _Line.fit(when[half:], sign * course[half:])
    found = _cross(line, float(when[-1]), sign * threshold, horizon, confidence)
    return replace(found, slope=sign * found.slope) if isinstance(found, Crossing) else found


def trend_slope(steps: ArrayLike, values: ArrayLike) -> float | None:
    """Change a step of `values` (n,) at ascending `steps` (n,) where it is a trend, else 0.

    A trend is significant as `forecast_crossing` wants it; where values bend, that of their later
    half is meant. None for fewer than `MIN_VALUES` values. Raises EstimatorInputError as
    `forecast_crossing` does.
    """
    when, course = finite_vector(steps, "steps"), finite_vector(values, "values")
    same_length(when, course, "steps and values")
    if (np.diff(when) <= 0).any():
        raise EstimatorInputError("steps must ascend")
    if when.size < MIN_VALUES:
        return None
    line, half = _Line.fit(when, course), when.size // 2
    if line.bends and when.size - half >= MIN_VALUES:
        line = _Line.fit(when[half:], course[half:])
    least = line.quantile(1.0 - SIGNIFICANCE) * line.slope_error + _ROUNDING * abs(line.level)
    return line.slope if abs(line.slope) > least else 0.0


def _cross(
    line: "_Line", last: float, threshold: float, horizon: float, confidence: float
) -> Crossing | NoForecast:
    """When a line falls to the threshold."""
    above, now = line.level - threshold, last - line.middle
    least_slope = line.quantile(1.0 - SIGNIFICANCE) * line.slope_error + _ROUNDING * abs(above)
    if above + line.slope * now <= 0.0:
        return "already crossed"
    if line.bends:
        return "no straight line"
    if -line.slope <= least_slope:
        return "no trend towards the threshold"
    steps = -above / line.slope - now
    if steps > horizon:
        return "beyond the horizon"
    low, high = _fieller(line, above, line.quantile((1.0 + confidence) / 2.0))
    return Crossing(steps, max(low - now, 0.0), high - now, line.slope, line.values)


@dataclass(frozen=True, slots=True)
class _Line:
    middle: float
    level: float
    """At the middle of the steps, where its error does not depend on that of the slope."""
    slope: float
    level_error: float
    slope_error: float
    freedom: float
    values: int
    bends: bool

    @classmethod
    def fit(cls, when: FloatArray, values: FloatArray) -> "_Line":
        n, middle = when.size, float(when.mean())
        one, other = np.triu_indices(n, 1)
        slope = float(np.median((values[other] - values[one]) / (when[other] - when[one])))
        rest = values - slope * (when - middle)
        one, other = np.triu_indices(n)
        level = float(np.median((rest[one] + rest[other]) / 2.0))
        rest -= level
        squares = float(rest @ rest)
        free = max(_independent(rest, squares) - 2.0, _LEAST_FREEDOM)
        variance = _RELATIVE_VARIANCE * squares / free
        spread = float(((when - middle) ** 2).sum())
        return cls(
            middle=middle,
            level=level,
            slope=slope,
            level_error=math.sqrt(variance / n),
            slope_error=math.sqrt(variance / spread),
            freedom=free,
            values=n,
            bends=_bends(when - middle, values),
        )

    def quantile(self, probability: float) -> float:
        return student_quantile(probability, self.freedom)


def _bends(offset: FloatArray, values: FloatArray) -> bool:
    """Whether the quadratic term of a parabola by least squares is significant."""
    basis, _ = np.linalg.qr(np.vander(offset, 3, increasing=True))
    parts = basis.T @ values
    rest = values - basis @ parts
    squares = float(rest @ rest)
    free = max(_independent(rest, squares) - 3.0, _LEAST_FREEDOM)
    error = math.sqrt(squares / free)
    rounding = _ROUNDING * float(np.abs(values).max())
    return abs(float(parts[2])) > student_quantile(1.0 - BEND / 2.0, free) * error + rounding


def _independent(rest: FloatArray, squares: float) -> float:
    """How many independent values the residuals are worth."""
    n = rest.size
    if squares == 0.0:
        return float(n)
    found = float(rest[1:] @ rest[:-1]) / squares
    correlation = min(max((found + 2.0 / n) / (1.0 - 4.0 / n), 0.0), 1.0)
    return n * (1.0 - correlation) / (1.0 + correlation)


def _fieller(line: _Line, above: float, quantile: float) -> tuple[float, float]:
    """Ends of the set where |above + slope x| <= quantile * its error; the slope is significant."""
    a = line.slope**2 - (quantile * line.slope_error) ** 2
    b = above * line.slope
    c = above**2 - (quantile * line.level_error) ** 2
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (-b - root) / a, (-b + root) / a


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t, to 1 % for 3 degrees of freedom or more and 0.01 <= p <= 0.99.

    Abramowitz and Stegun (1964), 26.7.5, with all four terms.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))
