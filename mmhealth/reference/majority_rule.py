"""Environment F2: one rule answers many prompts at once, the others are exceptions.

Every prompt asks for a row of decisions. Its observation holds *shared* features, from which a
random linear rule gives the right choice of every slot, and fainter *private* features. At an
exception every right answer differs from the rule, each in a way of its own, and only the private
features (and chance) tell which prompt it is. An episode succeeds when enough decisions are right.

The rule is what most prompts agree on, and is learned first. Groups of prompts then become
all-solved or all-failed, advantages vanish, and the exceptions that still fail stay where they are:
the estimator dies although nothing here is scripted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True, slots=True)
class MajorityRuleConfig:
    """Size and difficulty of the environment."""

    prompts: int = 32
    """Number of prompts; every step samples a group for each."""
    decisions: int = 10
    """Decisions (tokens) in an episode."""
    choices: int = 3
    """Choices a decision has."""
    shared_features: int = 6
    """Features that the rule reads."""
    shared_scale: float = 1.5
    """Norm of the shared features."""
    private_features: int = 12
    """Features that only identify the prompt."""
    private_scale: float = 0.3
    """Norm of the private features."""
    exception_share: float = 0.6
    """Share of prompts whose answers all differ from the rule."""
    need_low: int = 4
    """Smallest number of right decisions that a prompt may ask for."""
    need_high: int = 6
    """Largest number of right decisions that a prompt may ask for."""


class MajorityRule:
    """The prompts of one run, drawn from ``generator``."""

    observations: Tensor
    """(prompts, decisions, features) float32: what the policy sees at every decision."""
    answers: Tensor
    """(prompts, decisions) int64: the right choices."""
    need: Tensor
    """(prompts,) int64: right decisions asked for."""
    exception: Tensor
    """(prompts,) bool: the answers differ from the rule."""

    def __init__(self, config: MajorityRuleConfig, generator: torch.Generator) -> None:
        self.config = config
        prompts, slots, choices = config.prompts, config.decisions, config.choices

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        shared = config.shared_scale * normal(prompts, config.shared_features)
        shared /= config.shared_features**0.5
        private = config.private_scale * normal(prompts, config.private_features)
        private /= config.private_features**0.5
        rule = normal(slots, choices, config.shared_features)
        by_rule = torch.einsum("scf,pf->psc", rule, shared).argmax(-1)
        shift = torch.randint(1, choices, (prompts, slots), generator=generator)
        order = torch.randperm(prompts, generator=generator)
        self.exception = torch.zeros(prompts, dtype=torch.bool)
        self.exception[order[: round(config.exception_share * prompts)]] = True
        self.answers = torch.where(self.exception[:, None], (by_rule + shift) % choices, by_rule)
        self.need = torch.randint(
            config.need_low, config.need_high + 1, (prompts,), generator=generator
        )
        features = torch.cat([shared, private, torch.ones(prompts, 1)], 1)
        self.observations = torch.cat(
            [
                features[:, None, :].expand(-1, slots, -1),
                torch.eye(slots).expand(prompts, -1, -1),
            ],
            2,
        )

    def score(self, prompt: Tensor, actions: Tensor) -> Tensor:
        """Right decisions of episodes: prompt (rows,), actions (rows, decisions) -> (rows,)."""
        return (actions == self.answers[prompt]).sum(1)

    def success(self, prompt: Tensor, score: Tensor) -> Tensor:
        """Whether episodes with these scores are solved: (rows,) bool."""
        return score >= self.need[prompt]
