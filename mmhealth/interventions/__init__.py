"""Fixes that any trainer can call; they know nothing of the trainer and need NumPy alone."""

from mmhealth.interventions.adaptive import AlertLike, EssAdaptive, EssAdaptiveConfig
from mmhealth.interventions.agreement import intraclass_correlation
from mmhealth.interventions.annealed import AnnealedReward
from mmhealth.interventions.buckets import BucketNormalizer
from mmhealth.interventions.constraints import Constraint, ConstraintTable, hard_penalty
from mmhealth.interventions.entropy_floor import EntropyFloor
from mmhealth.interventions.ess_learning_rate import EssLearningRate
from mmhealth.interventions.frozen import FrozenSubagents
from mmhealth.interventions.horizons import MixedHorizons, advantages_within_horizon
from mmhealth.interventions.optimal_baseline import minimum_variance_baseline
from mmhealth.interventions.reliability import ReliabilityConfig, ReliabilitySchedule
from mmhealth.interventions.reserve import Item, NearMissReserve, Side, near_miss_side
from mmhealth.interventions.staged import StagedConfig, StagedObjectives
from mmhealth.interventions.unified import AdaptiveNormalisation, Normalised, UnifiedConfig
from mmhealth.interventions.variance import VarianceConfig, VarianceCorrection

__all__ = [
    "AdaptiveNormalisation",
    "AlertLike",
    "AnnealedReward",
    "BucketNormalizer",
    "Constraint",
    "ConstraintTable",
    "EntropyFloor",
    "EssAdaptive",
    "EssAdaptiveConfig",
    "EssLearningRate",
    "FrozenSubagents",
    "Item",
    "MixedHorizons",
    "NearMissReserve",
    "Normalised",
    "ReliabilityConfig",
    "ReliabilitySchedule",
    "Side",
    "StagedConfig",
    "StagedObjectives",
    "UnifiedConfig",
    "VarianceConfig",
    "VarianceCorrection",
    "advantages_within_horizon",
    "hard_penalty",
    "intraclass_correlation",
    "minimum_variance_baseline",
    "near_miss_side",
]
