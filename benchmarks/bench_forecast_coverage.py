"""How often the interval of a forecast holds, on courses whose crossing is known.

Simulated, seeded, about 10 s. Writes docs/benchmarks/forecast_coverage.md.
"""

import math
from collections.abc import Callable

import numpy as np
from tables import write_table

from mmhealth.estimators import Crossing, forecast_crossing
from mmhealth.health.forecast import WINDOW

RUNS, THRESHOLD, AHEAD, SLOPE = 1000, 0.2, 15, 0.006
CORRELATIONS = (0.0, 0.3, 0.6, 0.8)


def line(step: np.ndarray) -> np.ndarray:
    """Falls by `SLOPE` a step and crosses `AHEAD` steps after the last value, at step 0."""
    return THRESHOLD + SLOPE * (AHEAD - step)


def hinge(step: np.ndarray) -> np.ndarray:
    """Level until the 20th value, then a line with the same crossing, twice as steep."""
    return THRESHOLD + 2 * SLOPE * (AHEAD - np.maximum(step, -WINDOW // 2))


def flat(step: np.ndarray) -> np.ndarray:
    return np.full(len(step), THRESHOLD + 0.05)


def levelling(step: np.ndarray) -> np.ndarray:
    """Falls towards a level above the threshold, and never crosses."""
    return THRESHOLD + 0.02 + 0.06 * np.exp(-step / 25)


def bending(step: np.ndarray) -> np.ndarray:
    """A parabola: level at the first value, and ever steeper up to the same crossing."""
    span = WINDOW + AHEAD
    return THRESHOLD + 0.35 * (1 - ((step + WINDOW) / span) ** 2)


def noise(rng: np.random.Generator, correlation: float, spread: float) -> np.ndarray:
    """AR(1) from its stationary law: (RUNS, WINDOW), standard deviation ``spread``."""
    shocks = rng.normal(size=(RUNS, WINDOW))
    shocks[:, 1:] *= math.sqrt(1 - correlation**2)
    for t in range(1, WINDOW):
        shocks[:, t] += correlation * shocks[:, t - 1]
    return spread * shocks


def measure(
    name: str, course: Callable[[np.ndarray], np.ndarray], correlation: float, spread: float
) -> list[str]:
    steps = np.arange(1 - WINDOW, 1)
    values = course(steps) + noise(np.random.default_rng(0), correlation, spread)
    found = [
        forecast_crossing(steps, row, THRESHOLD, falling=True, horizon=WINDOW) for row in values
    ]
    made = [forecast for forecast in found if isinstance(forecast, Crossing)]
    crosses = course(np.array([AHEAD + 1]))[0] < THRESHOLD
    truth = AHEAD if crosses else math.inf
    cells = [name, f"{correlation:.1f}", f"{spread:.2f}", share(len(made), RUNS)]
    cells += [
        share(sum(forecast.low <= truth <= forecast.high for forecast in made), len(made)),
        share(sum(truth < forecast.low for forecast in made), len(made)),
        share(sum(truth > forecast.high for forecast in made), len(made)),
    ]
    if not made:
        return [*cells, "", ""]
    middle = np.median(
        [[forecast.steps, forecast.high - forecast.low] for forecast in made], axis=0
    )
    return [*cells, f"{middle[0]:.0f}", f"{middle[1]:.0f}"]


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


if __name__ == "__main__":
    rows = [
        measure(name, course, correlation, spread)
        for name, course, spreads in (
            ("line", line, (0.03, 0.06)),
            ("level, then a line", hinge, (0.03,)),
            ("flat", flat, (0.03,)),
            ("levels off above", levelling, (0.01, 0.03)),
            ("falls ever faster", bending, (0.01, 0.03)),
        )
        for spread in spreads
        for correlation in CORRELATIONS
    ]
    write_table(
        "forecast_coverage",
        "How often the interval of a forecast holds",
        f"{RUNS:,} simulated courses a row, {WINDOW} values each, with AR(1) noise of the given "
        f"lag-1 correlation and standard deviation, threshold {THRESHOLD}. *line* falls by {SLOPE} "
        f"a step and crosses {AHEAD} steps after the last value; *level, then a line* falls twice "
        "as steeply from the 20th value on, to the same crossing; *flat* stays 0.05 above and "
        "*levels off above* flattens 0.02 above, and neither ever crosses; *falls ever faster* is "
        "a parabola with the same crossing as the line. *forecast made*: share of courses with a "
        "trend that is significant and leads across within 40 steps; of those: the 90 % interval "
        "holds the crossing; the crossing came before it; it came after it, or never; *says*, "
        "*width*: medians of forecast and interval, in steps. The interval knows of noise around a "
        "line: a course that goes on as no line is where it fails.",
        [
            "course",
            "correlation",
            "sd",
            "forecast made",
            "interval holds",
            "came before",
            "came after, or never",
            "says",
            "width",
        ],
        rows,
    )
