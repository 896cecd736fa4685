"""The rows of an optimizer update: as sampled, and as repaired."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmhealth.interventions import NearMissReserve
from mmhealth.reference.majority_rule import MajorityRule
from mmhealth.reference.repair import RepairConfig, near_misses, repair
from mmhealth.reference.rollout import Episodes, concatenate, group_means

Columns = dict[str, Any]
"""Column name to values, one a row."""


@dataclass(kw_only=True, slots=True)
class Batch:
    """Rows of one backward pass; every tensor is (rows,)."""

    episodes: Episodes
    """The episodes."""
    advantage: Tensor
    """Reward minus the mean reward that the policy sampled in the group (float32)."""
    ids: Tensor
    """Trajectory ids (int64)."""
    injected: Tensor
    """Whether it comes from the reserve (bool)."""


@dataclass(kw_only=True, slots=True)
class StepBatches:
    """What a step sampled and what it trains on."""

    sampled: Batch
    """The batch before the repair."""
    trained: Batch
    """The batch that enters the updates; the same object where nothing was repaired."""
    replaced: Tensor
    """(sampled rows,) bool: sampled, but not trained on."""


def assemble(
    sampled: Episodes,
    environment: MajorityRule,
    reserve: NearMissReserve | None,
    config: RepairConfig,
) -> StepBatches:
    """Advantages of what was sampled, and the batch repaired from ``reserve`` if there is one."""
    means = group_means(sampled, environment.config.prompts)
    ids = torch.arange(len(sampled))
    nothing = torch.zeros(len(sampled), dtype=torch.bool)
    raw = Batch(
        episodes=sampled,
        advantage=sampled.reward - means[sampled.prompt],
        ids=ids,
        injected=nothing,
    )
    replaced, near = nothing, None
    if reserve is not None:
        replaced, near = repair(sampled, reserve, environment, config)
    if near is None:
        return StepBatches(sampled=raw, trained=raw, replaced=nothing)
    keep = ~replaced
    repaired = Batch(
        episodes=concatenate([sampled.rows(keep), near]),
        advantage=torch.cat([raw.advantage[keep], near.reward - means[near.prompt]]),
        ids=torch.cat([ids[keep], len(sampled) + torch.arange(len(near))]),
        injected=torch.arange(len(sampled)) >= int(keep.sum()),
    )
    return StepBatches(sampled=raw, trained=repaired, replaced=replaced)


def describe(
    batches: StepBatches, environment: MajorityRule, config: RepairConfig, updates_done: int
) -> Columns:
    """Columns of the trajectories table: all sampled rows, then the injected ones."""
    near = batches.trained.episodes.rows(batches.trained.injected)
    episodes = concatenate([batches.sampled.episodes, near])
    decisions = torch.full((len(episodes),), environment.config.decisions)
    roles = ["replaced" if out else "used" for out in batches.replaced.tolist()]
    exceptions = environment.exception[episodes.prompt].tolist()
    return {
        "trajectory_id": torch.arange(len(episodes)),
        "role": roles + ["injected"] * len(near),
        "group_id": episodes.prompt,
        "behavior_lag": updates_done - episodes.sampled_at,
        "reward": episodes.reward,
        "success": episodes.success,
        "score": episodes.score,
        "near_miss": near_misses(episodes, environment, config),
        "capability": ["exception" if flag else "rule" for flag in exceptions],
        "entropy": episodes.entropy,
        "length": decisions,
        "token_count": decisions,
        "turns": decisions,
        "horizon": decisions,
    }
