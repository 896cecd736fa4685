"""Evidence of hacking: a reward component parts from success, and rises without it.

Two ways to see it. Success that had been reached is given up while the component rises; or, before
that shows, the component stops telling successes from failures within groups, as it had done.
"""

import numpy as np

from mmhealth.health.diagnosis.record import WINDOW, Record, known_spread, window_means
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.heldout import own_evaluations
from mmhealth.health.rows import Array, Missing

REACHED = 0.04
"""Success over a window from which on there was some to lose."""
LOST = 0.5
"""Share of it that is to be lost."""
SURE = 4.0
"""Standard errors by which success is to have fallen, and a component to have risen."""
OPPOSED = 0.25
"""What is left of the sign where the total reward falls too: nobody games a reward and loses it."""
TOLD, UNTOLD = 0.5, 0.6
"""Within-group correlation of component and success that had been there, and what is to be lost."""
SOLVING = 0.6
"""Success over a window from which on that correlation says little: the failures left are odd."""


def divergence(record: Record) -> Sign:
    """The stronger of both ways."""
    if len(record) < 2 * WINDOW:
        raise Missing(f"fewer than {2 * WINDOW} steps")
    return max(_given_up(record), _parted(record), key=lambda sign: sign.strength)


def _given_up(record: Record) -> Sign:
    """A component (or the total) rises as success falls."""
    success = record.metric("success_rate")
    means = window_means(success)
    if np.isnan(means).all():
        raise Missing("success is known in too few steps")
    best = int(np.nanargmax(means))
    low = best + int(np.nanargmin(means[best:]))
    high, fallen = float(means[best]), float(means[low])
    rows = float(np.median(record.frame["n"].to_numpy())) * WINDOW
    error = float(np.sqrt(max(high * (1 - high) + fallen * (1 - fallen), 1e-9) / max(rows, 1)))
    lost = (high - fallen) / high if high > 0 else 0.0
    has_total = _is_known(record, "reward")
    names = [*_components(record), *(["reward"] if has_total else [])]
    if not names:
        raise Missing("neither reward nor a component of it is logged")
    rises = {name: _rise(record, name, best, low) for name in names}
    name = max(rises, key=lambda key: rises[key])
    total = rises.get("reward", 0.0)
    strength = min(high / REACHED, lost / LOST, (high - fallen) / error / SURE, rises[name] / SURE)
    if total < 0:
        strength *= OPPOSED
    steps = record.steps
    before, now = _at(record, name, best), _at(record, name, low)
    evidence = [
        f"success falls from {high:.0%} (to step {steps[best]:.0f}) to {fallen:.0%} "
        f"(to step {steps[low]:.0f})",
        f"{name} goes from {before:.3g} to {now:.3g} in the same steps",
        *_held_out(record, int(steps[best]), int(steps[low])),
    ]
    if not has_total:
        kept = "not ruled out: the total reward is not logged"
    elif total >= 0:
        kept = "ruled out: the total reward does not fall, as it would with a lost state"
    else:
        kept = "not ruled out: the total reward falls with success"
    rivals = {"resume fault": kept}
    return Sign(float(np.clip(strength, 0.0, 2.0)), int(steps[best]), tuple(evidence), rivals)


def _parted(record: Record) -> Sign:
    """A component rises and no longer tells successes from failures within groups."""
    best = Sign(0.0)
    for name in _components(record):
        told = _told(record, name)
        if np.isnan(told).all():
            continue
        top = int(np.nanargmax(told))
        after = told[top:]
        low = top + int(np.nanargmin(after))
        had, left = float(told[top]), float(told[low])
        rise = _rise(record, name, top, low)
        strength = min(had / TOLD, (had - left) / UNTOLD, rise / SURE, 2.0)
        if strength > best.strength:
            steps = record.steps
            evidence = (
                f"within groups {name} and success correlate by {had:.2f} up to step "
                f"{steps[top]:.0f}, and by {left:.2f} up to step {steps[low]:.0f}",
                f"{name} goes from {_at(record, name, top):.3g} to {_at(record, name, low):.3g}",
            )
            rivals = {
                "gradient domination": "ruled out: the component had told successes from failures"
            }
            best = Sign(strength, int(steps[top]), evidence, rivals)
    return best


def _is_known(record: Record, name: str) -> bool:
    try:
        return bool(np.isfinite(record.mean(name)).any())
    except Missing:
        return False


def _components(record: Record) -> list[str]:
    return record.components


def _told(record: Record, name: str) -> Array:
    """(steps,) correlation of a component and success within groups, over trailing windows.

    NaN where a window has too little of either outcome (squares of success around the group's mean
    that sum to less than 1 a step), or nearly all succeed.
    """
    try:
        record.need("group_id", "success", name)
    except Missing:
        return np.full(len(record), np.nan)
    aa, bb, ab = (window_means(record.reading(f"told {name} {of}")) for of in ("aa", "bb", "ab"))
    success = np.nan_to_num(window_means(record.metric("success_rate")), nan=1.0)
    enough = (aa >= 1.0) & (bb > 0) & (success < SOLVING)
    return np.where(enough, ab / np.sqrt(np.where(enough, aa * bb, 1.0)), np.nan)


def _rise(record: Record, name: str, before: int, after: int) -> float:
    """Rise of a column between two windows, in standard errors; 0.0 where it is not known."""
    try:
        values = record.mean(name)
    except Missing:
        return 0.0
    means = window_means(values)
    noise = known_spread(np.diff(values)) * np.sqrt(2 / WINDOW) or 1e-12
    return float(np.nan_to_num((means[after] - means[before]) / noise))


def _at(record: Record, name: str, row: int) -> float:
    try:
        return float(window_means(record.mean(name))[row])
    except Missing:
        return float("nan")


def _held_out(record: Record, best: int, low: int) -> list[str]:
    own = own_evaluations(record.run.evaluations)
    if own.is_empty():
        return []
    rates: list[float] = []
    for first, last in ((best - WINDOW, best), (low - WINDOW, low)):
        part = own.filter((own["step"] > first) & (own["step"] <= last))
        if part.is_empty():
            return []
        rates.append(float(part["successes"].sum()) / float(part["episodes"].sum()))
    return [f"held-out success goes from {rates[0]:.0%} to {rates[1]:.0%}"]
