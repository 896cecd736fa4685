"""Evidence of premature specialisation: choices are settled while what they lead to still fails."""

from dataclasses import dataclass

import numpy as np

from mmhealth.health.diagnosis.record import (
    WINDOW,
    Record,
    known_mean,
    known_spread,
    thirds,
    window_means,
)
from mmhealth.health.diagnosis.sign import Sign, worst
from mmhealth.health.rows import Missing

STUCK = 0.5
"""Share of the trajectories that are stuck (`mmhealth.health.outcomes.stuck_share`)."""
SETTLED = 0.35
"""Share of the first strategic entropy that is to be gone."""
FAILING, LEARNED = 0.05, 0.1
"""Best success of any window up to which a policy never learned, and from which on it did."""
SATURATED = 0.25
"""Part of a component's rise that may still come in the last third: what has settled stands."""
CLEAR = 2.0
"""Rise of a reward component (`_Rise.clear`) from which on it is clear."""
STILL = 1 / 3
"""Part of that rise below which another component stands still beside it."""


def premature(record: Record) -> Sign:
    """Choices of what to do are settled, reward rises, and nearly everything still fails."""
    entropy, success = record.metric("strategic_entropy"), record.metric("success_rate")
    stuck = record.metric("stuck_share")
    first = known_mean(entropy[: max(WINDOW // 2, 1)])
    late_success, late_entropy = thirds(success)[2], thirds(entropy)[2]
    where = worst(record, stuck)
    reached = window_means(success)
    if np.isnan(reached).all():
        raise Missing("success is known in too few steps")
    best = float(np.nanmax(reached))
    failing = float(np.clip((LEARNED - best) / (LEARNED - FAILING), 0.0, 1.0))
    gone = (1 - late_entropy / first) / SETTLED if first > 0 else 0.0
    by_stuck = thirds(stuck)[2] / STUCK
    rises = _rises(record)
    paid = max(rises, key=lambda name: rises[name].clear, default=None)
    apart = (
        paid is not None
        and rises[paid].clear >= CLEAR
        and rises[paid].last <= SATURATED
        and any(rise.clear < STILL * rises[paid].clear for rise in rises.values())
    )
    by_pay = failing * gone * (1.0 if apart else 0.5)
    strength = max(min(by_pay, 2.0), min(by_stuck, 2.0))
    settled = np.flatnonzero(entropy < (1 - SETTLED) * first)
    since = int(record.steps[settled[0]]) if settled.size else None
    evidence = [
        f"strategic_entropy starts at {first:.2f} nats and is {late_entropy:.2f} in the last third",
        f"success in the last third: {late_success:.0%}",
    ]
    if where is not None and where.value > 0.1:
        evidence.append(
            f"{where.words}: {where.value:.0%} of the trajectories do what is settled and fail "
            "with their whole group"
        )
    if paid is not None and rises[paid].clear >= CLEAR:
        evidence.append(f"{paid} rose from {rises[paid].early:.3g} to {rises[paid].late:.3g}")
    evidence.extend(
        f"{name} went from {rise.early:.3g} to {rise.late:.3g} meanwhile"
        for name, rise in rises.items()
        if apart and name != paid
    )
    rivals = {
        "reward-component divergence": (
            f"ruled out: success never came (at best {best:.0%}), so none was given up"
            if best < LEARNED
            else f"not ruled out: success had been {best:.0%}"
        )
    }
    return Sign(strength, since, tuple(evidence), rivals)


@dataclass(frozen=True, slots=True)
class _Rise:
    """How a reward component went from the first steps of the run to its last third."""

    early: float
    late: float
    last: float
    """Part of the rise that came between the middle and the last third."""
    clear: float
    """Rise over four times what it changes by from one step to the next."""


def _rises(record: Record) -> dict[str, _Rise]:
    """Every reward component; the total where none is logged."""
    found = {}
    for name in record.components or ["reward"]:
        try:
            values = record.mean(name)
        except Missing:
            continue
        early, (_, middle, late) = known_mean(values[: WINDOW // 2]), thirds(values)
        spread = known_spread(np.diff(values)) or 1e-12
        found[name] = _Rise(
            early=early,
            late=late,
            last=(late - middle) / (late - early) if late != early else 0.0,
            clear=(late - early) / (4 * spread),
        )
    return found
