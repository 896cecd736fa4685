"""Means of a step as the trainer logged them, for steps of which there are no trajectories."""

import math

from mmhealth.estimators import count_nonfinite
from mmhealth.health.rows import Measured, Missing
from mmhealth.runlog import StepData

WATCHED = ("reward", "entropy", "kl_ref", "loss", "grad_norm")
"""Scalars whose non-finite values are counted. Others, as the mean of an empty set, may be NaN."""


def logged_mean(data: StepData, name: str) -> Measured | None:
    """The scalar of this name; None where there are trajectories to take it from, or no scalar.

    It stands for one row: how many are behind it is not logged. Raises Missing when not finite.
    """
    if not data.trajectories.is_empty() or name not in data.scalars:
        return None
    value = data.scalars[name]
    if not math.isfinite(value):
        raise Missing(f"{name} has no finite value")
    return Measured(value, 1)


def nonfinite_means(data: StepData) -> Measured:
    """NaN and infinities among the scalars of a step without trajectories."""
    if not data.trajectories.is_empty():
        return Measured(0, 0)
    values = [data.scalars[name] for name in WATCHED if name in data.scalars]
    return Measured(count_nonfinite(values).total, min(1, len(values)))
