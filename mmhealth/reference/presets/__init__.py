"""What ``--env`` and ``--preset`` mean: each environment has a baseline and fixes."""

from dataclasses import fields, replace
from types import ModuleType

from mmhealth.reference.config import Fixes, TrainConfig
from mmhealth.reference.presets import (
    horizon_budget,
    majority_rule,
    mixed_sources,
    modalities,
    orchestrator,
    tool_syntax,
    width_limits,
)

WORLDS: dict[str, ModuleType] = {
    "F1": tool_syntax,
    "F2": majority_rule,
    "F3": mixed_sources,
    "F4": width_limits,
    "F5": horizon_budget,
    "modalities": modalities,
    "orchestrator": orchestrator,
}
ENVIRONMENTS = tuple(WORLDS)
PRESETS = (
    "baseline",
    "staged",
    "reliability",
    "ess",
    "variance",
    "soft",
    "mixed",
    "unified",
    "all",
)


def preset(environment: str, name: str = "baseline") -> TrainConfig:
    """The run that the names stand for.

    ``all`` switches on all fixes of the environment but those that stand in for others
    (``reliability`` for ``staged``, ``unified`` for ``ess`` and ``variance``). Raises ValueError
    for an unknown environment, and for a fix that has nothing to act on there.
    """
    if environment not in WORLDS:
        raise ValueError(f"environment {environment!r} is not one of {', '.join(WORLDS)}")
    world = WORLDS[environment]
    baseline: TrainConfig = world.baseline()
    fixes: dict[str, Fixes] = world.fixes()
    known = ["baseline", *fixes, *(["all"] if fixes else [])]
    if name not in known:
        raise ValueError(
            f"preset {name!r} is not one of those of {environment}: {', '.join(known)}"
        )
    if name == "baseline":
        return baseline
    if name == "all":
        together = [fix for key, fix in fixes.items() if key not in ("reliability", "unified")]
        return replace(baseline, fixes=merged(*together))
    return replace(baseline, fixes=fixes[name])


def merged(*parts: Fixes) -> Fixes:
    """All that any of the parts switches on; the later one where two do."""
    off = Fixes()
    values = {
        field.name: value
        for part in parts
        for field in fields(Fixes)
        if (value := getattr(part, field.name)) != getattr(off, field.name)
    }
    return replace(off, **values)
