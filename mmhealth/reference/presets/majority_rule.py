"""F2: the estimator dies of missing contrast.

Environment and loop were chosen by the baseline's crossing and stall on seeds 0-9, the knobs of the
fixes on seeds 0-4. Seeds from 100 on are for reports.
"""

from mmhealth.interventions import EssAdaptiveConfig, UnifiedConfig
from mmhealth.reference.config import Fixes, LoopConfig, RepairConfig, TrainConfig
from mmhealth.reference.environments.majority_rule import MajorityRuleConfig


def baseline() -> TrainConfig:
    """Rollouts one step old, two updates on each batch, no trust region."""
    return TrainConfig(
        environment=MajorityRuleConfig(),
        steps=160,
        loop=LoopConfig(group_size=16, hidden=32, learning_rate=0.006, warmup=20, updates=2, lag=1),
    )


def fixes() -> dict[str, Fixes]:
    """The ESS-adaptive loop, and the unified layer in its place."""
    repair = RepairConfig()
    return {
        "ess": Fixes(ess=EssAdaptiveConfig(kl_coef=0.1, hold=60, half_life=10), repair=repair),
        "unified": Fixes(unified=UnifiedConfig(kl_coef=0.1, hold=60, half_life=10), repair=repair),
    }
