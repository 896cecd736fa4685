"""The orchestrator: all five failures in one world, and all fixes together.

Environment and loop were chosen for the baseline alone, on seeds 0 and 1: with all failures, with
each of three of them alone (cost, noise, surface), and with none of them, where the task is learned
at the horizon trained at. They were then frozen. The fixes' knobs were tuned for all fixes together
on seeds 0 and 1: the warmup and final weight of preferences (0.3, 0.4, 0.45 and 0.5; 0.5, 0.65 and
0.8), and the scale and bonus of the soft limit (0.3 to 0.02; 2 to 0.2). A penalty per turn adds up
over 23 turns of work, and its noise delays the syntax, so both want to be small here. The unified
layer keeps its thresholds; from an ESS of 0.45 it acts all the time, and was worse on seed 1.
"""

from mmhealth.interventions import (
    Constraint,
    EssAdaptiveConfig,
    StagedConfig,
    UnifiedConfig,
    VarianceConfig,
)
from mmhealth.reference.config import Fixes, FloorConfig, LoopConfig, RepairConfig, TrainConfig
from mmhealth.reference.environments.orchestrator import OrchestratorConfig


def baseline() -> TrainConfig:
    """Everything at once: all rewards from the first step, hard limit, shortest horizon."""
    return TrainConfig(
        environment=OrchestratorConfig(),
        steps=120,
        loop=LoopConfig(
            group_size=8,
            hidden=24,
            learning_rate=0.02,
            microbatches=5,
            reward_weights={"verifiable": 0.5, "preference": 0.5},
            violation_cost=2.0,
            eval_episodes=120,
            eval_every=20,
        ),
    )


def fixes() -> dict[str, Fixes]:
    """The five interventions, and the unified layer in place of two."""
    repair = RepairConfig(swap=3)
    return {
        "staged": Fixes(
            staged=StagedConfig(warmup=0.45, preference=0.65), floor=FloorConfig(threshold=0.7)
        ),
        "ess": Fixes(ess=EssAdaptiveConfig(), repair=repair),
        "variance": Fixes(variance=VarianceConfig(reference_length=400)),
        "soft": Fixes(
            constraints=(
                Constraint("load", scale=0.02, width=0.3, margin=0.2, beta0=0.2, decay_steps=60),
            )
        ),
        "mixed": Fixes(horizons=(6, 10, 16, 25)),
        "unified": Fixes(
            unified=UnifiedConfig(variance=VarianceConfig(reference_length=400)), repair=repair
        ),
    }
