"""F3: a loud source makes most of every update.

World and loop were chosen on runs without a fix: on the baseline (seeds 0 and 1), and on a
homogeneous world (the verifier alone, 600 tokens, seed 0), which has to be learnable, and whose
Gini is the floor of what a correction can reach. They were frozen twice. In the first world, chosen
on seeds 0-4, argument tokens saw the capability, and even homogeneous runs learnt to spell tools;
the fix had been run there on seeds 0-2. In the second nothing was changed after a fix had been run,
and the fixes are at their defaults: tuned on nothing.
"""

from dataclasses import replace

from mmhealth.interventions import UnifiedConfig, VarianceConfig
from mmhealth.reference.config import Fixes, LoopConfig, TrainConfig
from mmhealth.reference.environments.mixed_sources import MixedSourcesConfig


def baseline() -> TrainConfig:
    """Group baselines, and nothing that knows of sources or lengths."""
    return TrainConfig(
        environment=MixedSourcesConfig(),
        steps=120,
        loop=LoopConfig(
            group_size=8,
            hidden=24,
            learning_rate=0.01,
            microbatches=16,
            eval_episodes=256,
            eval_every=10,
        ),
    )


def changing() -> TrainConfig:
    """The same, with a mixture that moves half way: the loud source comes in only then."""
    config = baseline()
    environment = MixedSourcesConfig(mixture=(0.75, 0.25, 0.0), later_mixture=(0.5, 0.25, 0.25))
    return replace(config, environment=environment)


def fixes() -> dict[str, Fixes]:
    """Every term over the spread of its source and the root of its length; or the unified layer."""
    return {
        "variance": Fixes(variance=VarianceConfig()),
        "unified": Fixes(unified=UnifiedConfig()),
    }
