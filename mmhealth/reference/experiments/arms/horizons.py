"""Figure 5, horizons: one at a time, all at once, and one after the other; likewise modalities."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from mmhealth.reference.config import TrainConfig
from mmhealth.reference.experiments.arms.base import Arm, checked, with_fixes, with_loop
from mmhealth.reference.presets import modalities, preset

HORIZONS = (6, 10, 16, 25)
"""Budgets in turns."""


def arms() -> tuple[Arm, ...]:
    """Regimes that sample about as many turns as the mixed one does in its steps."""
    mixed = with_loop(preset("F5", "mixed"), eval_every=10, eval_episodes=512)
    plain = with_fixes(mixed)
    fixed = [
        Arm(
            figure="5",
            name=f"trained at {horizon}",
            about=f"only episodes of up to {horizon} turns",
            config=_scheduled(plain, [horizon]),
            against=None if horizon == HORIZONS[0] else f"trained at {HORIZONS[0]}",
        )
        for horizon in HORIZONS
    ]
    first = fixed[0].name
    return checked(
        [
            *fixed,
            Arm(
                figure="5",
                name="mixed",
                about="horizons drawn uniformly from the first step on",
                config=mixed,
                against=first,
            ),
            Arm(
                figure="5",
                name="curriculum",
                about="each horizon in turn, ascending, as many episodes of each as in mixed",
                config=_scheduled(plain, HORIZONS),
                against="mixed",
            ),
            Arm(
                figure="5",
                name="fine-tuned",
                about=f"first at {HORIZONS[0]}, for the second half of the steps at {HORIZONS[-1]}",
                config=_scheduled(plain, [HORIZONS[0], HORIZONS[-1]]),
                against="mixed",
            ),
            *_images(),
        ]
    )


def _scheduled(mixed: TrainConfig, horizons: Sequence[int]) -> TrainConfig:
    """One horizon after the other in equal parts, and in all as many turns as mixed has."""
    steps = round(mixed.steps * mean(HORIZONS) / mean(horizons))
    schedule = tuple((place / len(horizons), h) for place, h in enumerate(horizons, 1))
    return replace(with_loop(mixed, horizon_schedule=schedule), steps=steps)


def _images() -> list[Arm]:
    """As many images in total; judged by images alone."""
    words = {
        "images late": (modalities.LATE, "text alone first, then mostly images"),
        "images early": (modalities.EARLY, "as many images in all, a few in every step"),
    }
    return [
        Arm(
            figure="5",
            name=name,
            about=about,
            config=with_loop(modalities.baseline(schedule), eval_every=10, eval_episodes=512),
            against=None if name == "images late" else "images late",
            before_final=show_images,
        )
        for name, (schedule, about) in words.items()
    ]


def show_images(environment: Any) -> None:
    """Let the final evaluation be of images only, whatever the last step trained."""
    environment.show(1.0)
