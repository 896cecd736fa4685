"""The step at which held-out success stops improving."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, as_count, finite_vector, same_length
from mmhealth.estimators.mean import mean

_TIE = 1e-12
"""An improvement that misses delta by less than this is rounding, and counts as reaching it."""


def stall_step(
    steps: ArrayLike,
    success: ArrayLike,
    window: int = 15,
    ahead: int = 40,
    delta: float = 0.02,
    *,
    later_gain: float | None = None,
) -> int | None:
    """First step after which mean held-out success improves by less than `delta`, or None.

    `steps` (n,) are whole numbers, `success` (n,) the held-out success at each, in any row order;
    not every step needs an evaluation, and several at a step count one each. With the trailing mean
    M(u) = mean of success over evaluations at steps u - window < step <= u, the result is the first
    evaluated step t with M(t + ahead) - M(t) < delta, among the t for which

    - a full window lies behind: t - window + 1 >= first step, and
    - `ahead` steps remain: t + ahead <= last step, and
    - M(t + ahead) exists: at least one evaluation lies in its window.

    With ``later_gain`` only a stall that lasts counts: no trailing mean at an evaluated step after
    t + ahead exceeds M(t) by as much. A plateau that success leaves later is none then.

    None when no such t stalls, and when there is no such t: with fewer than window + ahead steps
    the stall is undefined. Success that stays at its ceiling stalls too.
    Raises EstimatorInputError for empty or non-finite input, steps that are not whole, lengths that
    differ, a window or ahead below 1, or a delta or later_gain that is not finite.
    """
    when = finite_vector(steps, "steps")
    level = finite_vector(success, "success")
    same_length(when, level, "steps and success")
    if (when != np.rint(when)).any() or (np.abs(when) > 2**53).any():
        raise EstimatorInputError("steps: expected whole numbers")
    if as_count(window, "window") < 1 or as_count(ahead, "ahead") < 1:
        raise EstimatorInputError("window and ahead: must be at least one step")
    for name, gain in (("delta", delta), ("later_gain", later_gain)):
        if gain is not None and not math.isfinite(gain):
            raise EstimatorInputError(f"{name}: {gain} is not finite")
    order = np.argsort(when, kind="stable")
    when, level = when[order], level[order]
    points = np.unique(when)
    means = np.array([_trailing_mean(when, level, point, window) for point in points])
    for step in _judged(when, window, ahead):
        now = _trailing_mean(when, level, step, window)
        later = _trailing_mean(when, level, step + ahead, window)
        after = means[points > step + ahead]
        lasts = later_gain is None or not (after - now >= later_gain - _TIE).any()
        if later - now < delta - _TIE and lasts:
            return int(step)
    return None


def last_judged_step(steps: ArrayLike, window: int = 15, ahead: int = 40) -> int | None:
    """Last evaluated step at which `stall_step` could have seen a stall; None: it could see none.

    ``steps`` (n,) are those of the evaluations. Raises EstimatorInputError as `stall_step` does.
    """
    judged = _judged(np.sort(finite_vector(steps, "steps")), window, ahead)
    return int(judged[-1]) if judged else None


def _judged(when: FloatArray, window: int, ahead: int) -> list[float]:
    """Evaluated steps with a full window behind, and ahead of which there is a mean to compare."""
    first, last = when[0] + window - 1, when[-1] - ahead
    known = np.unique(when[(when >= first) & (when <= last)])
    start, stop = (
        np.searchsorted(when, known + ahead - back, side="right") for back in (window, 0)
    )
    return [float(step) for step in known[stop > start]]


def _trailing_mean(steps: FloatArray, values: FloatArray, step: float, window: int) -> float:
    """Mean of values at steps in (step - window, step], of which there is one at least."""
    start, stop = np.searchsorted(steps, (step - window, step), side="right")
    return mean(values[start:stop])
