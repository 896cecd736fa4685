"""All failures in one world: every fix alone, all together, and all but one."""

from dataclasses import replace

from mmhealth.reference.config import Fixes
from mmhealth.reference.experiments.arms.base import Arm, checked, with_fixes
from mmhealth.reference.presets import WORLDS, merged, preset

WORLD = "orchestrator"
STAND_INS = ("reliability", "unified")
"""Fixes that stand in for others and are not part of ``all``."""


def arms() -> tuple[Arm, ...]:
    """Baseline, each fix, all, leave one out, and the unified layer in place of two."""
    baseline = preset(WORLD, "baseline")
    fixes: dict[str, Fixes] = WORLDS[WORLD].fixes()
    parts = {name: fix for name, fix in fixes.items() if name not in STAND_INS}

    def arm(name: str, about: str, fix: Fixes, against: str = "baseline") -> Arm:
        config = with_fixes(baseline, fix)
        return Arm(
            figure=WORLD,
            name=name,
            about=about,
            config=config,
            against=against,
            audit=True,
            final_episodes=2500,
        )

    everything = merged(*parts.values())
    plain = arm("baseline", "no fix", Fixes())
    listed = [
        replace(plain, against=None),
        *(
            arm(name, f"the fix {name} alone", fix)
            for name, fix in fixes.items()
            if name != "reliability"
        ),
        arm("all", "all fixes", everything),
        *(
            arm(
                f"all but {name}",
                f"all fixes but {name}",
                merged(*(fix for other, fix in parts.items() if other != name)),
                against="all",
            )
            for name in parts
        ),
    ]
    if "unified" in fixes:
        others = [fix for name, fix in parts.items() if name not in ("ess", "variance")]
        together = merged(*others, fixes["unified"])
        about = "all fixes, one layer in place of ess and variance"
        listed.append(arm("all, unified", about, together, against="all"))
    return checked(listed)
