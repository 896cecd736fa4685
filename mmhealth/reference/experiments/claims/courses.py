"""Events in the course of a run: when a series crosses a line, when learning stalls."""

import numpy as np

from mmhealth.estimators import stall_step
from mmhealth.reference.experiments.results import Array, Result

SMOOTHING = 5
"""Steps of the trailing mean that crossings are read off."""


def trailing_mean(values: Array, window: int) -> Array:
    """Mean of the last ``window`` values at each step; NaN until there are that many, or if one is
    not known."""
    if len(values) < window:
        return np.full(len(values), np.nan)
    means = np.convolve(values, np.full(window, 1 / window), "valid")
    return np.concatenate([np.full(window - 1, np.nan), means])


def first_below(result: Result, name: str, line: float) -> float | None:
    """First step at which the 5-step mean of a series lies below ``line``; None: never."""
    below = trailing_mean(result.series(name), SMOOTHING) < line
    return float(result.series("step")[below.argmax()]) if below.any() else None


def stall(result: Result) -> float | None:
    """Step at which held-out success stalls (`mmhealth.estimators.stall_step`); None: never."""
    steps, success = result.success()
    return stall_step(steps, success) if len(steps) else None
