"""Figure 1, entropy: when the preference enters, and what keeps the choice of tools open."""

from dataclasses import replace

from mmhealth.reference.experiments.arms.base import Arm, checked, with_fixes, with_loop
from mmhealth.reference.presets import preset


def arms() -> tuple[Arm, ...]:
    """Warm-ups of three lengths, what might do instead of them, and the bonus of the textbook."""
    baseline = with_loop(preset("F1", "baseline"), eval_every=2)
    fixes = preset("F1", "staged").fixes
    staged = fixes.staged
    assert staged is not None
    variations = {
        "staged 30 %": (fixes, "verifiable rewards alone for 30 % of the steps, entropy floor"),
        "staged 10 %": (
            replace(fixes, staged=replace(staged, warmup=0.1)),
            "as staged 30 %, warm-up 10 %",
        ),
        "staged 50 %": (
            replace(fixes, staged=replace(staged, warmup=0.5)),
            "as staged 30 %, warm-up 50 %",
        ),
        "automatic schedule": (
            preset("F1", "reliability").fixes,
            "the preference enters when raters are found reliable",
        ),
        "no floor": (replace(fixes, floor=None), "staged 30 % without the entropy floor"),
    }
    bonus = 0.2
    return checked(
        [
            Arm(
                figure="1",
                name="baseline",
                about="both rewards from the first step",
                config=baseline,
                against=None,
            ),
            *(
                Arm(figure="1", name=name, about=about, config=with_fixes(baseline, changed))
                for name, (changed, about) in variations.items()
            ),
            Arm(
                figure="1",
                name="entropy bonus",
                about=f"baseline with a reward of {bonus:g} per nat of entropy, no curriculum",
                config=with_loop(baseline, entropy_bonus=bonus),
            ),
        ]
    )
