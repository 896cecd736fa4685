"""Fixes that any trainer can call; they know nothing of the trainer and need NumPy alone."""

from mmhealth.interventions.adaptive import AlertLike, EssAdaptive, EssAdaptiveConfig
from mmhealth.interventions.reserve import Item, NearMissReserve, Side, near_miss_side

__all__ = [
    "AlertLike",
    "EssAdaptive",
    "EssAdaptiveConfig",
    "Item",
    "NearMissReserve",
    "Side",
    "near_miss_side",
]
