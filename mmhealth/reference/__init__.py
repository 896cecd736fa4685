"""The reference trainer: small policy-gradient runs whose estimators really die (needs torch)."""

from mmhealth.reference.config import Fixes, FloorConfig, LoopConfig, RepairConfig, TrainConfig
from mmhealth.reference.environment import Environment, EnvironmentConfig, Outcome, Play, Turn
from mmhealth.reference.loop import Trainer
from mmhealth.reference.policy import Policy
from mmhealth.reference.presets import ENVIRONMENTS, PRESETS, preset
from mmhealth.reference.steplog import Evaluation, StepLog
from mmhealth.reference.train import TrainResult, train

__all__ = [
    "ENVIRONMENTS",
    "PRESETS",
    "Environment",
    "EnvironmentConfig",
    "Evaluation",
    "Fixes",
    "FloorConfig",
    "LoopConfig",
    "Outcome",
    "Play",
    "Policy",
    "RepairConfig",
    "StepLog",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "Turn",
    "preset",
    "train",
]
