"""Everything that decides the course of a run, beside its seed."""

from dataclasses import dataclass, field
from typing import Literal

from mmhealth.interventions import (
    Constraint,
    EssAdaptiveConfig,
    ReliabilityConfig,
    StagedConfig,
    UnifiedConfig,
    VarianceConfig,
)
from mmhealth.reference.environment import EnvironmentConfig

AdvantageKind = Literal["group", "group_std", "batch", "horizon", "to_go"]
"""Baseline and scale of advantages: minus the mean of the prompt's group; that over its standard
deviation (GRPO); standardised over the batch; standardised over the trajectories of the same
horizon; reward-to-go minus the mean of the turn, over the root mean square of all."""


@dataclass(kw_only=True, slots=True)
class RepairConfig:
    """The reserve half of the ESS-adaptive loop: what is kept, and how much of it is used."""

    kind: Literal["near_miss", "hard_negative"] = "near_miss"
    """Near misses of the side that a group lacks, or (an ablation) clear failures."""
    capacity: int = 8
    """Trajectories kept per prompt and side."""
    max_bytes: int | None = None
    """Bound of the whole reserve in bytes."""
    below: float = 2
    """A failure by at most this much score is a near miss."""
    above: float = 1
    """A success by at most this much score to spare is a near miss."""
    swap: int = 6
    """Members of a one-sided group that are swapped; 0 turns the repair off."""
    solved_groups: bool = False
    """Also give failures to groups in which all succeed. It costs success: what is solved has no
    contrast to restore."""
    min_log_weight: float = -2.0
    """Lower clip of an injected row's log importance ratio, in nats per decision."""
    max_log_weight: float = 1.0
    """Upper clip of it."""


@dataclass(kw_only=True, slots=True)
class FloorConfig:
    """The entropy floor on strategic decisions."""

    threshold: float = 1.1
    """Entropy below which it acts, in nats."""
    coef: float = 1.0
    """Its strength, in loss units per nat."""


@dataclass(kw_only=True, slots=True)
class Fixes:
    """The interventions of a run; None or False is off."""

    staged: StagedConfig | None = None
    """Verifiable rewards first, preference later (I)."""
    reliability: ReliabilityConfig | None = None
    """Rewards in order of measured reliability, instead of ``staged`` (I)."""
    floor: FloorConfig | None = None
    """Entropy floor while rewards are being introduced (I)."""
    ess: EssAdaptiveConfig | None = None
    """Alert-triggered anchor (II)."""
    repair: RepairConfig | None = None
    """What enters one-sided groups while ``ess`` or ``unified`` is active (II)."""
    ess_learning_rate: bool = False
    """Step size times the square root of the ESS of the importance weights (II)."""
    variance: VarianceConfig | None = None
    """Contributions over source spread and square root of length (III)."""
    bucket: str | None = None
    """Column whose values get contributions of equal spread, such as ``capability`` (III)."""
    minimum_variance: bool = False
    """Group baseline weighted by squared score norms (III)."""
    constraints: tuple[Constraint, ...] = ()
    """Softplus penalties and annealed bonuses in place of the hard penalty (IV)."""
    horizons: tuple[int, ...] = ()
    """Horizons drawn uniformly, from the first step on (V)."""
    unified: UnifiedConfig | None = None
    """One layer in place of ``ess`` and ``variance``."""


@dataclass(kw_only=True, slots=True)
class LoopConfig:
    """The trainer's knobs."""

    group_size: int = 16
    """Trajectories sampled per prompt and step."""
    hidden: int = 32
    """Units of the policy's hidden layer."""
    learning_rate: float = 0.01
    """Adam's step size."""
    warmup: int = 0
    """Steps over which the step size rises linearly from zero."""
    updates: int = 1
    """Optimizer updates in a step, each on the whole batch."""
    lag: int = 0
    """Steps by which the policy that samples is behind the one that learns."""
    microbatches: int = 1
    """Parts, sorted by length, in which a gradient is accumulated."""
    advantage: AdvantageKind = "group"
    """Baseline and scale of advantages."""
    loss_ratio: Literal["sequence", "geometric"] = "sequence"
    """Importance ratio of a trajectory: whole, or its geometric mean over decisions."""
    log_weight_clip: float = 20.0
    """Largest log importance ratio of sampled rows, either sign: a guard against overflow."""
    entropy_bonus: float = 0.0
    """Reward for entropy, in loss units per nat and decision."""
    reward_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each reward component, by name; a component not named counts in full."""
    violation_cost: float = 0.0
    """Hard penalty of every turn that violates a constraint; soft constraints replace it."""
    horizon_schedule: tuple[tuple[float, int], ...] = ()
    """(share of the run until which, horizon): a curriculum; empty: the environment's first."""
    eval_episodes: int = 1024
    """Held-out episodes per horizon and evaluation, rounded to whole prompts."""
    eval_every: int = 1
    """Steps between evaluations."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """A run: the world, the loop, the fixes."""

    environment: EnvironmentConfig
    """Configuration of the environment; its type says which one."""
    steps: int = 120
    """Steps of a whole run; schedules are fractions of it."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """The trainer's knobs."""
    fixes: Fixes = field(default_factory=Fixes)
    """What is switched on."""
