"""All five failures in one world."""

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
            staged=StagedConfig(warmup=0.5, ramp=0.1), floor=FloorConfig(threshold=0.7)
        ),
        "ess": Fixes(ess=EssAdaptiveConfig(), repair=repair),
        "variance": Fixes(variance=VarianceConfig(reference_length=400)),
        "soft": Fixes(
            constraints=(
                Constraint("load", scale=0.03, width=0.3, margin=0.2, beta0=0.5, decay_steps=60),
            )
        ),
        "mixed": Fixes(horizons=(6, 10, 16, 25)),
        "unified": Fixes(
            unified=UnifiedConfig(variance=VarianceConfig(reference_length=400)), repair=repair
        ),
    }
