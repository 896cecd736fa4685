"""Figure 4, constraints: cliffs of three heights, and slopes with and without a bonus."""

from dataclasses import replace

from mmhealth.reference.experiments.arms.base import (
    Arm,
    checked,
    with_fixes,
    with_loop,
)
from mmhealth.reference.presets import preset, width_limits

LOOSER, TIGHTER = 0.3, 2.0
"""Factors on the hard penalty."""


def arms() -> tuple[Arm, ...]:
    """Hard and soft penalties."""
    baseline = with_loop(preset("F4", "baseline"), eval_every=2, eval_episodes=512)
    cost = baseline.loop.violation_cost
    soft = preset("F4", "soft").fixes
    no_bonus = tuple(replace(one, beta0=0.0) for one in soft.constraints)
    plain = Arm(
        figure="4",
        name="hard",
        about=f"a violation costs {cost:g}",
        config=baseline,
        against=None,
    )
    hard = [
        Arm(
            figure="4",
            name=name,
            about=f"a violation costs {cost * factor:g}",
            config=with_loop(baseline, violation_cost=cost * factor),
            against="hard",
        )
        for name, factor in (("looser hard", LOOSER), ("tighter hard", TIGHTER))
    ]
    softened = [
        Arm(
            figure="4",
            name="soft",
            about="softplus penalty and an annealed bonus for parallel work",
            config=with_fixes(baseline, soft),
            against="hard",
        ),
        Arm(
            figure="4",
            name="softplus alone",
            about="softplus penalty without the bonus",
            config=with_fixes(baseline, soft, constraints=no_bonus),
            against="hard",
        ),
    ]
    return checked([plain, *softened, *hard, *_needless()])


def _needless() -> list[Arm]:
    """A limit from which policies flee to the other side."""
    hard = with_loop(width_limits.needless_baseline(), eval_every=2, eval_episodes=512)
    return [
        Arm(
            figure="4",
            name="hard latency",
            about="the latency of a turn is limited instead: the safe width is the greatest",
            config=hard,
            against=None,
        ),
        Arm(
            figure="4",
            name="soft latency",
            about="softplus penalty and an annealed bonus for starting no more than needed",
            config=with_fixes(hard, width_limits.needless_fixes()["soft"]),
            against="hard latency",
        ),
    ]
