"""The arms of every figure: what is trained to test what is claimed."""

from collections.abc import Callable

from mmhealth.reference.experiments.arms import (
    constraints,
    entropy,
    ess,
    horizons,
    orchestrator,
    variance,
)
from mmhealth.reference.experiments.arms.base import Arm

__all__ = ["FIGURES", "Arm", "arms_of"]

_MAKE: dict[str, Callable[[], tuple[Arm, ...]]] = {
    "1": entropy.arms,
    "2": ess.arms,
    "3": variance.arms,
    "4": constraints.arms,
    "5": horizons.arms,
    "orchestrator": orchestrator.arms,
}
_UNIFIED = {
    "2": ("baseline", "ESS loop", "unified"),
    "3": ("baseline", "variance correction", "unified"),
    "orchestrator": ("baseline", "ess", "variance", "unified", "all", "all, unified"),
}
"""What the unified layer is compared with: arms of other figures."""
FIGURES = (*_MAKE, "unified")


def arms_of(figure: str) -> tuple[Arm, ...]:
    """The arms that a figure needs; those of ``unified`` belong to other figures.

    Raises ValueError for a figure that is not one of `FIGURES`.
    """
    if figure == "unified":
        return tuple(
            arm for other, names in _UNIFIED.items() for arm in _MAKE[other]() if arm.name in names
        )
    if figure not in _MAKE:
        raise ValueError(f"figure {figure!r} is not one of {', '.join(FIGURES)}")
    return _MAKE[figure]()
