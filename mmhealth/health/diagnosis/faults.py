"""Evidence of faults of the machinery: values not finite, and resumes that lost a state."""

import math

import numpy as np

from mmhealth.health.diagnosis.record import Record, known_mean, known_spread
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.rows import Array, Missing

NEAR = 2
"""Steps on either side of a restart whose means are compared."""
SIDE = 2 * NEAR
"""Steps on either side that are looked at: those next to it, and as many for the trend."""
JUMP = 4.0
"""Standard errors by which a metric is to jump at a restart."""
JUMPING = 3
"""Metrics that are to jump by that much together, each towards where the run began."""
COURSES = (
    "reward",
    "success_rate",
    "entropy",
    "strategic_entropy",
    "violated_share",
    "stuck_share",
    "solved_group_share",
)
"""Metrics of the timeline that describe what the policy is; the reward components come to them."""
POLICY = ("entropy", "strategic_entropy")
"""Those that rewards and prompts do not change at once: where logged, one of them has to jump."""


def nonfinite(record: Record) -> Sign:
    """NaN or infinities in what is logged."""
    counts = record.frame["nonfinite"].fill_null(0).to_numpy()
    if not counts.any():
        return Sign(0.0)
    bad = np.flatnonzero(counts)
    first = int(record.steps[bad[0]])
    columns = record.nonfinite_at(first)
    named = f"; the columns are {', '.join(columns)}" if columns else ""
    evidence = [
        f"step {first}: {int(counts[bad[0]])} values are NaN or infinite{named}",
        f"{bad.size} of {len(record)} steps hold such values",
    ]
    if bad[-1] == len(record) - 1:
        evidence.append("the log ends in such a step")
    return Sign(10.0, first, tuple(evidence))


def resume_fault(record: Record) -> Sign:
    """What the policy does goes back at once where an attempt ends and the next begins."""
    attempts = record.frame["attempt"].to_numpy()
    boundaries = np.flatnonzero(np.diff(attempts)) + 1
    if not boundaries.size:
        return Sign(0.0, evidence=("the run was never restarted",))
    courses = _courses(record)
    found: list[Sign] = []
    reason = ""
    for at in boundaries:
        try:
            found.append(_at(record, courses, int(at)))
        except Missing as why:
            reason = str(why)
    if not found:
        raise Missing(reason)
    best = max(found, key=lambda sign: sign.strength)
    quiet = Sign(0.0, evidence=("restarts left no mark in what the policy does",))
    return best if best.strength > 0 else quiet


def _at(record: Record, courses: dict[str, Array], at: int) -> Sign:
    """The sign of one restart, whose first step is row ``at``."""
    if at < SIDE or at + SIDE > len(record):
        raise Missing(f"a restart has fewer than {SIDE} steps on one side")
    known: dict[str, float] = {}
    for name, values in courses.items():
        before, after = _sides(values, at)
        size = jump(values, at)
        if not np.isnan(size):
            is_back = (after - before) * (known_mean(values[:SIDE]) - before) > 0
            known[name] = size if is_back else 0.0
    if len(known) < JUMPING:
        raise Missing("too few courses are logged to tell a jump at a restart")
    ranked = sorted(known, key=lambda name: -known[name])
    own = [known[name] for name in POLICY if name in known]
    strength = min(known[ranked[JUMPING - 1]], max(own, default=math.inf)) / JUMP
    step = int(record.steps[at])
    evidence = [f"a new attempt begins at step {step}"]
    for name in ranked[:JUMPING]:
        before, after = _sides(courses[name], at)
        evidence.append(
            f"{name} goes back from {before:.3g} to {after:.3g} there, {known[name]:.1f} times "
            "what the run changes by elsewhere, its trend set aside"
        )
    return Sign(strength, step, tuple(evidence))


def jump(values: Array, at: int) -> float:
    """Jump between rows ``at - 1`` and ``at`` beyond the trend, in units of the run's own jumps.

    Compared are the means of `NEAR` rows on either side, less the mean of what they change by over
    the `NEAR` rows before and behind; the unit is the root mean square of the same at all rows
    that are not near. NaN where too few of them are known.
    """
    found = np.full(values.size, np.nan)
    for row in range(SIDE, values.size - SIDE + 1):
        parts = values[row - SIDE : row + SIDE].reshape(4, NEAR).mean(1)
        found[row] = (parts[2] - parts[1]) - ((parts[1] - parts[0]) + (parts[3] - parts[2])) / 2
    others = found.copy()
    others[max(at - SIDE, 0) : at + SIDE + 1] = np.nan
    others = others[np.isfinite(others)]
    if others.size < SIDE or np.isnan(found[at]):
        return float("nan")
    scale = float(np.sqrt(np.mean(others**2)))
    if scale == 0.0:
        return 0.0 if found[at] == 0.0 else float("inf")
    return float(abs(found[at]) / scale)


def _sides(values: Array, row: int) -> tuple[float, float]:
    return float(np.mean(values[row - NEAR : row])), float(np.mean(values[row : row + NEAR]))


def _courses(record: Record) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in COURSES:
        try:
            found[name] = record.metric(name)
        except Missing:
            continue
    for name in record.components:
        try:
            found[name] = record.mean(name)
        except Missing:
            continue
    return {name: values for name, values in found.items() if known_spread(values) > 0}
