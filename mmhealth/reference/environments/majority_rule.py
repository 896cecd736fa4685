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

from mmhealth.reference.environment import Outcome, Turn


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
    exception_share: float = 0.4
    """Share of prompts whose answers all differ from the rule."""
    need_low: int = 4
    """Smallest number of right decisions that a prompt may ask for."""
    need_high: int = 6
    """Largest number of right decisions that a prompt may ask for."""

    def build(self, generator: torch.Generator) -> "MajorityRule":
        """The prompts of one run."""
        return MajorityRule(self, generator)


class MajorityRule:
    """The prompts of one run, drawn from ``generator``."""

    prior: Tensor | None = None
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
        self.prompts = config.prompts
        self.choices = config.choices
        self.horizons = (1,)
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
        self.features = self.observations.shape[-1]

    def advance(self, step: int, steps: int) -> None:
        """Nothing changes here."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Answering":
        """Episodes of one turn; neither ``horizon`` nor ``generator`` has a say."""
        return Answering(self, prompt)


class Answering:
    """Episodes in which all decisions are made at once."""

    def __init__(self, world: MajorityRule, prompt: Tensor) -> None:
        self._world = world
        self._prompt = prompt
        self._actions: Tensor | None = None

    def turn(self) -> Turn | None:
        """The only turn."""
        if self._actions is not None:
            return None
        prompts, slots, _ = self._world.observations.shape
        return Turn(
            observations=self._world.observations.flatten(0, 1),
            kind=torch.arange(prompts * slots).view(prompts, slots)[self._prompt],
            valid=torch.ones(len(self._prompt), slots, dtype=torch.bool),
        )

    def act(self, actions: Tensor) -> None:
        """Give all answers."""
        self._actions = actions

    def outcome(self) -> Outcome:
        """Solved where enough answers are right."""
        world, prompt = self._world, self._prompt
        assert self._actions is not None
        score = (self._actions == world.answers[prompt]).sum(1)
        success = score >= world.need[prompt]
        exception = world.exception[prompt].tolist()
        return Outcome(
            success=success,
            rewards={"task": success.float()},
            score=score.float(),
            need=world.need[prompt].float(),
            columns={"capability": ["exception" if flag else "rule" for flag in exception]},
        )
