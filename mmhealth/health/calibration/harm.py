"""Whether a run came to harm, and at which step: read off held-out success alone."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import regression_step
from mmhealth.health.heldout import held_out_course, own_evaluations
from mmhealth.health.rules import SOLVED_SUCCESS_RATE

Kind = Literal["stall", "regression", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Harm:
    """What became of a run."""

    kind: Kind
    """``none``: it kept learning, or stalled where the task is solved; ``unknown``: its evaluations
    are too few to tell, and it counts neither as healthy nor as sick."""
    step: int | None
    """Step of the stall or regression, whichever came first."""
    why: str


def find_harm(evaluations: pl.DataFrame, solved_at: float = SOLVED_SUCCESS_RATE) -> Harm:
    """Harm in ``evaluations`` as in `mmhealth.runlog.Run.evaluations`.

    A stall (`mmhealth.estimators.stall_step`) counts below a mean success of ``solved_at``; a
    regression (`mmhealth.estimators.regression_step`) counts at every evaluation horizon.
    """
    course = held_out_course(evaluations)
    found: list[tuple[int, Kind, str]] = []
    if course.stall_step is not None:
        level = course.frame.filter(step=course.stall_step)["mean"][0]
        if level < solved_at:
            why = f"held-out success stalls at {level:.2f}"
            found.append((course.stall_step, "stall", why))
    for (horizon,), part in _by_horizon(evaluations):
        steps, won, of = (part[name].to_numpy() for name in ("step", "successes", "episodes"))
        try:
            step = regression_step(steps, won, of)
        except EstimatorInputError:
            continue
        if step is not None:
            at = "" if horizon is None else f" at horizon {horizon}"
            found.append((step, "regression", f"held-out success{at} falls back for good"))
    if found:
        step, kind, why = min(found)
        return Harm(kind, step, f"{why} (step {step})")
    if course.stall_step is not None:
        return Harm("none", None, f"success stays at or above {solved_at:g}")
    if course.frame.is_empty() or "span" in (course.stall_reason or ""):
        return Harm("unknown", None, course.stall_reason or "")
    return Harm("none", None, course.stall_reason or "")


def _by_horizon(evaluations: pl.DataFrame) -> list[tuple[tuple[int | None], pl.DataFrame]]:
    own = own_evaluations(evaluations)
    if own.is_empty():
        return []
    parts = own.sort("eval_horizon", "step", maintain_order=True).partition_by(
        "eval_horizon", as_dict=True, maintain_order=True
    )
    return [((key[0],), part) for key, part in parts.items()]
