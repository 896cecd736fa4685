"""Whether a run came to harm, and at which step: read off held-out success alone."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import regression_step
from mmhealth.health.heldout import (
    AHEAD_STEPS,
    MEAN_STEPS,
    HeldOutCourse,
    held_out_course,
    own_evaluations,
)
from mmhealth.health.solved import SOLVED_SUCCESS_RATE

Kind = Literal["stall", "regression", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Harm:
    """What became of a run."""

    kind: Kind
    """``none``: it kept learning, or stalled where the task is solved; ``unknown``: its evaluations
    are too few to tell, and it counts neither as healthy nor as sick."""
    step: int | None
    """Step of the stall or regression."""
    why: str
    known_to: int | None = None
    """Last step up to which a run without harm is known to have had none: what comes to harm later
    has not shown it yet."""


def find_harm(evaluations: pl.DataFrame, solved_at: float = SOLVED_SUCCESS_RATE) -> Harm:
    """Harm in ``evaluations`` as in `mmhealth.runlog.Run.evaluations`.

    A stall (`mmhealth.estimators.stall_step`) counts below a mean success of ``solved_at``; a
    regression (`mmhealth.estimators.regression_step`) counts at every evaluation horizon. A stall
    within `AHEAD_STEPS` before a regression is that regression, seen from afar.
    """
    course = held_out_course(evaluations)
    found = min(_regressions(evaluations), default=None)
    stall, level = course.stall_step, _level_of_stall(course)
    is_early = stall is not None and (found is None or stall + AHEAD_STEPS < found[0])
    if stall is not None and level < solved_at and is_early:
        return Harm("stall", stall, f"held-out success stalls at {level:.2f} (step {stall})")
    if found is not None:
        step, why = found
        return Harm("regression", step, f"{why} (step {step})")
    if course.judged_to is None:
        return Harm("unknown", None, course.stall_reason or "")
    if course.stall_step is None:
        return Harm("none", None, course.stall_reason or "", course.judged_to)
    last = int(course.frame["step"][-1])
    return Harm("none", None, f"success stays at or above {solved_at:g}", last - MEAN_STEPS)


def _level_of_stall(course: HeldOutCourse) -> float:
    """Mean held-out success at the stall; 0 where there is none."""
    at = course.frame.filter(step=course.stall_step) if course.stall_step is not None else None
    return 0.0 if at is None else float(at["mean"][0])


def _regressions(evaluations: pl.DataFrame) -> list[tuple[int, str]]:
    """The first regression at each evaluation horizon."""
    own = own_evaluations(evaluations)
    if own.is_empty():
        return []
    found: list[tuple[int, str]] = []
    parts = own.sort("eval_horizon", "step").partition_by("eval_horizon", as_dict=True)
    for (horizon,), part in parts.items():
        steps, won, of = (part[name].to_numpy() for name in ("step", "successes", "episodes"))
        try:
            step = regression_step(steps, won, of)
        except EstimatorInputError:
            continue
        if step is not None:
            at = "" if horizon is None else f" at horizon {horizon}"
            found.append((step, f"held-out success{at} falls back for good"))
    return found
