"""Whether a run came to harm, and at which step: read off held-out success alone."""

import math
from dataclasses import dataclass
from typing import Literal

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import regression_step, stall_step
from mmhealth.health.heldout import (
    AHEAD_STEPS,
    LATER_GAIN,
    MEAN_STEPS,
    STALL_DELTA,
    HeldOutCourse,
    held_out_course,
    own_evaluations,
)
from mmhealth.health.solved import SOLVED_SUCCESS_RATE

Kind = Literal["stall", "regression", "never", "borderline", "none", "unknown"]

_CHANCE = 3.0
"""Standard errors of the first evaluation by which success must have risen, too."""

_Found = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Harm:
    """What became of a run."""

    kind: Kind
    """``never``: it stalled where it began. ``none``: it kept learning, or got as far as its task
    allows. ``borderline``: it stood still or fell back, and recovered by its end. ``unknown``: its
    evaluations are too few to tell. The last two count neither as healthy nor as sick."""
    step: int | None
    """First step of the stall or regression; of a run that never learned the step at which its
    evaluations can first tell so, `AHEAD_STEPS` after the stall."""
    why: str
    known_to: int | None = None
    """Last step up to which a run without harm is known to have had none: what comes to harm later
    has not shown it yet."""


def find_harm(evaluations: pl.DataFrame, solved_at: float = SOLVED_SUCCESS_RATE) -> Harm:
    """Harm in ``evaluations`` as in `mmhealth.runlog.Run.evaluations`.

    A stall (`mmhealth.estimators.stall_step`) is harm when success never rises `LATER_GAIN` above
    it later, and ends below ``solved_at``; what had never risen `LATER_GAIN` above its beginning
    has *never* learned, and has no onset that could be seen coming. A regression
    (`mmhealth.estimators.regression_step`) at any evaluation horizon is harm when success never
    comes back. A stall within `AHEAD_STEPS` before a regression is that regression, seen from
    afar.
    """
    course = held_out_course(evaluations)
    fall = _fall(evaluations, lasting=True)
    if course.judged_to is None and fall is None:
        return Harm("unknown", None, course.stall_reason or "")
    stall = _stall(course, solved_at, lasting=True)
    first = _first(stall, fall)
    if first is not None:
        return _harm_of_stall(course, *first) if first is stall else Harm("regression", *first)
    passing = _first(_stall(course, solved_at, lasting=False), _fall(evaluations, lasting=False))
    if passing is not None:
        return Harm("borderline", passing[0], f"{passing[1]}, and recovered")
    last = int(course.frame["step"][-1])
    steps, rates = course.frame["step"], course.frame["rate"]
    if stall_step(steps, rates, MEAN_STEPS, AHEAD_STEPS, STALL_DELTA) is None:
        return Harm("none", None, course.stall_reason or "", course.judged_to)
    return Harm("none", None, f"success reaches {solved_at:g}", last - MEAN_STEPS)


def _first(stall: _Found | None, fall: _Found | None) -> _Found | None:
    """Whichever came first; a stall shortly before a fall is the fall."""
    if stall is None or (fall is not None and fall[0] <= stall[0] + AHEAD_STEPS):
        return fall
    return stall


def _stall(course: HeldOutCourse, solved_at: float, *, lasting: bool) -> _Found | None:
    """The first stall below ``solved_at``."""
    if course.judged_to is None:
        return None
    steps, rates, means = (course.frame[name] for name in ("step", "rate", "mean"))
    gain = LATER_GAIN if lasting else None
    step = stall_step(steps, rates, MEAN_STEPS, AHEAD_STEPS, STALL_DELTA, later_gain=gain)
    if step is None:
        return None
    level = float(course.frame.filter(step=step)["mean"][0])
    if level >= solved_at or (lasting and float(means[-1]) >= solved_at):
        return None
    return step, f"held-out success stalls at {level:.2f} (step {step})"


def _harm_of_stall(course: HeldOutCourse, step: int, why: str) -> Harm:
    level = float(course.frame.filter(step=step)["mean"][0])
    first, of = float(course.frame["rate"][0]), int(course.frame["episodes"][0])
    chance = _CHANCE * math.sqrt(level * (1 - level) / of)
    if level - first >= max(LATER_GAIN, chance):
        return Harm("stall", step, why)
    told = step + AHEAD_STEPS
    return Harm("never", told, f"held-out success stays at {level:.2f} (seen at step {told})")


def _fall(evaluations: pl.DataFrame, *, lasting: bool) -> _Found | None:
    """The first regression at any evaluation horizon."""
    own = own_evaluations(evaluations)
    if own.is_empty():
        return None
    found: list[_Found] = []
    parts = own.sort("eval_horizon", "step").partition_by("eval_horizon", as_dict=True)
    for (horizon,), part in parts.items():
        steps, won, of = (part[name].to_numpy() for name in ("step", "successes", "episodes"))
        try:
            step = regression_step(steps, won, of, lasting=lasting)
        except EstimatorInputError:
            continue
        if step is not None:
            at = "" if horizon is None else f" at horizon {horizon}"
            found.append((step, f"held-out success{at} falls back (step {step})"))
    return min(found, default=None)
