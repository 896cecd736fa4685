"""Episodes as tensors: what a step samples and what a reserve gives back."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mmhealth.reference.majority_rule import MajorityRule
from mmhealth.reference.policy import Policy, entropy, sample, sequence_log_prob


@dataclass(kw_only=True, slots=True)
class Episodes:
    """Finished episodes, one a row; every tensor is (rows,) unless stated."""

    prompt: Tensor
    """Prompt, and thereby group (int64)."""
    actions: Tensor
    """(rows, decisions) choices made (int64)."""
    log_prob: Tensor
    """Log-probability under the policy that sampled them, in nats."""
    sampled_at: Tensor
    """Optimizer updates that policy had seen (int64)."""
    score: Tensor
    """Right decisions (int64)."""
    success: Tensor
    """Whether they are solved (bool)."""
    reward: Tensor
    """Reward (float32)."""
    entropy: Tensor
    """Mean entropy of that policy over the decisions, in nats per token."""

    def __len__(self) -> int:
        return len(self.prompt)

    def rows(self, chosen: Tensor) -> "Episodes":
        """The chosen rows: bool (rows,) or indices."""
        return Episodes(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """The rows of all parts, in order."""
    names = [f.name for f in fields(Episodes)]
    return Episodes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


@torch.no_grad()
def roll_out(
    policy: Policy,
    environment: MajorityRule,
    *,
    group_size: int,
    updates: int,
    generator: torch.Generator,
) -> Episodes:
    """Sample ``group_size`` episodes of every prompt; rows are ordered by prompt.

    ``updates`` is the number of optimizer updates the policy has seen.
    """
    log_probs = policy(environment.observations).repeat_interleave(group_size, 0)
    prompt = torch.arange(environment.config.prompts).repeat_interleave(group_size)
    actions = sample(log_probs, generator)
    score = environment.score(prompt, actions)
    success = environment.success(prompt, score)
    return Episodes(
        prompt=prompt,
        actions=actions,
        log_prob=sequence_log_prob(log_probs, actions),
        sampled_at=torch.full_like(prompt, updates),
        score=score,
        success=success,
        reward=success.float(),
        entropy=entropy(log_probs).mean(1),
    )


def group_means(episodes: Episodes, groups: int) -> Tensor:
    """(groups,) mean reward of every group."""
    total = torch.zeros(groups).index_add_(0, episodes.prompt, episodes.reward)
    return total / torch.bincount(episodes.prompt, minlength=groups)
