"""Modalities: as many images in total, late at a high ratio or early at a low one.

Environment and loop were chosen for the late arm alone, on seeds 0-2 (text is learned before images
come, and images within the last quarter in part), and then frozen; the early arm has nothing to
tune. On seeds 0-9 the late arm ends at .53 of the images, the early one at .70. It is not for want
of updates: an untrained policy gets to .74 in as many steps of as many images.
"""

from mmhealth.reference.config import Fixes, LoopConfig, TrainConfig
from mmhealth.reference.environments.modalities import ModalitiesConfig

LATE = ((0.75, 0.0), (1.0, 0.8))
"""No images for three quarters of the run, then four prompts in five."""
EARLY = ((1.0, 0.2),)
"""One prompt in five from the first step on: the same number in total."""
FRESH = ((0.25, 0.8), (1.0, 0.0))
"""The last quarter of `LATE` comes first: what as many steps give an untrained policy."""


def baseline(schedule: tuple[tuple[float, float], ...] = LATE) -> TrainConfig:
    """Images as ``schedule`` says; late by default."""
    return TrainConfig(
        environment=ModalitiesConfig(schedule=schedule),
        steps=120,
        loop=LoopConfig(
            group_size=12, hidden=16, learning_rate=0.02, advantage="group", eval_every=5
        ),
    )


def fixes() -> dict[str, Fixes]:
    """None: what cures it is the schedule of the data, ``baseline(EARLY)``."""
    return {}
