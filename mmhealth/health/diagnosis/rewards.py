"""Evidence of hacking: a reward component rises while success, once reached, is given up."""

import numpy as np

from mmhealth.health.diagnosis.record import WINDOW, Record, window_means
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.heldout import own_evaluations
from mmhealth.health.rows import Missing

REACHED = 0.04
"""Success over a window from which on there was some to lose."""
LOST = 0.5
"""Share of it that is to be lost."""
OPPOSED = 0.25
"""What is left of the sign where the total reward falls too: nobody games a reward and loses it."""
SURE = 4.0
"""Standard errors by which success is to have fallen, and a component to have risen."""


def divergence(record: Record) -> Sign:
    """A component (or the total) rises as success falls."""
    if len(record) < 2 * WINDOW:
        raise Missing(f"fewer than {2 * WINDOW} steps")
    success = record.metric("success_rate")
    means = window_means(success)
    if np.isnan(means).all():
        raise Missing("success is known in too few steps")
    best = int(np.nanargmax(means))
    after = means[best:]
    low = best + int(np.nanargmin(after))
    high, fallen = float(means[best]), float(means[low])
    rows = float(np.median(record.frame["n"].to_numpy())) * WINDOW
    error = float(np.sqrt(max(high * (1 - high) + fallen * (1 - fallen), 1e-9) / max(rows, 1)))
    sigma = (high - fallen) / error
    lost = (high - fallen) / high if high > 0 else 0.0
    name, rise, before, now = _rise(record, best, low)
    total = _rise_of(record, "reward", best, low)
    strength = min(high / REACHED, lost / LOST, sigma / SURE, rise / SURE, 2.0)
    if total < 0:
        strength *= OPPOSED
    steps = record.steps
    evidence = [
        f"success falls from {high:.0%} (to step {steps[best]:.0f}) to {fallen:.0%} "
        f"(to step {steps[low]:.0f})",
    ]
    if name:
        evidence.append(f"{name} goes from {before:.3g} to {now:.3g} in the same steps")
    held = _held_out(record, int(steps[best]), int(steps[low]))
    if held:
        evidence.append(held)
    rivals = {
        "resume fault": "ruled out: the total reward does not fall, as it would with a lost state"
        if total >= 0
        else "not ruled out: the total reward falls with success"
    }
    return Sign(max(strength, 0.0), int(steps[best]), tuple(evidence), rivals)


def _rise_of(record: Record, name: str, best: int, low: int) -> float:
    """Rise of one column between two windows, in standard errors; 0.0 where it is not known."""
    try:
        values = record.mean(name)
    except Missing:
        return 0.0
    means = window_means(values)
    noise = float(np.nanstd(np.diff(values))) * np.sqrt(2 / WINDOW) or 1e-12
    return float((means[low] - means[best]) / noise)


def _rise(record: Record, best: int, low: int) -> tuple[str, float, float, float]:
    """The component that rose most between two windows: name, sigmas, before, after."""
    found = ("", 0.0, np.nan, np.nan)
    names = [n for n in record.sampled.columns if n.startswith("reward_")] + ["reward"]
    for name in names:
        try:
            values = record.mean(name)
        except Missing:
            continue
        rise = _rise_of(record, name, best, low)
        if rise > found[1]:
            means = window_means(values)
            found = (name, rise, float(means[best]), float(means[low]))
    return found


def _held_out(record: Record, best: int, low: int) -> str:
    own = own_evaluations(record.run.evaluations)
    if own.is_empty():
        return ""
    rates: list[float] = []
    for first, last in ((best - WINDOW, best), (low - WINDOW, low)):
        part = own.filter((own["step"] > first) & (own["step"] <= last))
        if part.is_empty():
            return ""
        rates.append(float(part["successes"].sum()) / float(part["episodes"].sum()))
    return f"held-out success goes from {rates[0]:.0%} to {rates[1]:.0%}"
