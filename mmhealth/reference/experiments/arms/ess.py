"""Figure 2, effective sample size: the loop, its parts, and what else might do."""

from dataclasses import replace

from mmhealth.reference.config import Fixes, TrainConfig
from mmhealth.reference.experiments.arms.base import Arm, checked, with_fixes, with_loop
from mmhealth.reference.presets import preset

STALE = {"lag": 8, "updates": 4}
"""Rollouts so old, and used so often, that the ESS of the importance weights collapses.

Chosen on the baseline alone, seeds 0-9, of lags 2 to 16 and 2 to 8 updates: the first setting in
which it lies below 20 % (5-step mean) in every seed for ten steps or more. Then frozen."""


def arms() -> tuple[Arm, ...]:
    """The ordinary setting, and one with stale rollouts."""
    baseline = with_loop(preset("F2", "baseline"), eval_every=2, eval_episodes=512)
    loop = preset("F2", "ess").fixes
    return checked([*_ordinary(baseline, loop), *_stale(with_loop(baseline, **STALE), loop)])


def _ordinary(baseline: TrainConfig, loop: Fixes) -> list[Arm]:
    assert loop.ess is not None
    assert loop.repair is not None
    hard = replace(loop, repair=replace(loop.repair, kind="hard_negative"))
    variations = {
        "ESS loop": (loop, "near misses into failed groups and a KL anchor, on alert"),
        "hard negatives": (
            hard,
            "the loop with clear failures, at their graded reward, in place of near misses",
        ),
        "KL alone": (replace(loop, repair=None), "the loop without near misses"),
        "near misses alone": (
            replace(loop, ess=replace(loop.ess, kl_coef=0.0)),
            "the loop without the KL anchor",
        ),
        "sqrt(ESS) learning rate": (
            Fixes(ess_learning_rate=True),
            "step size times the square root of the weight ESS, nothing else",
        ),
        "unified": (
            preset("F2", "unified").fixes,
            "one layer for ESS and variance, which needs no alert",
        ),
    }
    plain = Arm(
        figure="2",
        name="baseline",
        about="rollouts one step old, two updates on each batch",
        config=baseline,
        against=None,
    )
    return [
        plain,
        *(
            Arm(figure="2", name=name, about=about, config=with_fixes(baseline, fixes))
            for name, (fixes, about) in variations.items()
        ),
    ]


def _stale(stale: TrainConfig, loop: Fixes) -> list[Arm]:
    setting = f"rollouts {STALE['lag']} steps old, {STALE['updates']} updates on each batch"
    variations = {
        "stale ESS loop": (loop, "the loop"),
        "stale sqrt(ESS) learning rate": (
            Fixes(ess_learning_rate=True),
            "step size times the square root of the weight ESS",
        ),
    }
    plain = Arm(figure="2", name="stale baseline", about=setting, config=stale, against=None)
    return [
        plain,
        *(
            Arm(
                figure="2",
                name=name,
                about=f"{setting}; {about}",
                config=with_fixes(stale, fixes),
                against="stale baseline",
            )
            for name, (fixes, about) in variations.items()
        ),
    ]
