"""The reference trainer: a small policy-gradient run whose estimator really dies (needs torch)."""

from mmhealth.reference.loop import LoopConfig, StepLog, Trainer
from mmhealth.reference.majority_rule import MajorityRule, MajorityRuleConfig
from mmhealth.reference.policy import Policy
from mmhealth.reference.repair import RepairConfig
from mmhealth.reference.train import PRESETS, TrainConfig, TrainResult, train

__all__ = [
    "PRESETS",
    "LoopConfig",
    "MajorityRule",
    "MajorityRuleConfig",
    "Policy",
    "RepairConfig",
    "StepLog",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "train",
]
