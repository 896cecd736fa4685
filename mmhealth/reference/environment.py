"""What an environment is to the trainer: episodes made of turns, a turn made of decisions.

`Environment.play` opens a batch of episodes. As long as ``turn()`` shows one, the policy makes all
decisions of it at once (none of them sees another's outcome) and hands them to ``act``. At the end
``outcome()`` tells what the episodes were worth. Decisions are the tokens of this small world: they
make the length of a trajectory, its log-probability and its entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(kw_only=True, slots=True)
class Turn:
    """One turn of all episodes of a batch."""

    observations: Tensor
    """(rows, decisions, features) float32, or with ``kind`` (kinds, features)."""
    valid: Tensor
    """(rows, decisions) bool: the decision is really made; False where the episode has ended."""
    allowed: Tensor | None = None
    """(rows, decisions, choices) bool, or with ``kind`` (kinds, choices): what may be chosen; None:
    everything."""
    kind: Tensor | None = None
    """(rows, decisions) int64: where decisions repeat, the line of ``observations`` and ``allowed``
    that each of them sees. The policy is then asked once a line."""
    strategic: bool = False
    """Whether these decisions pick *what* to do (a tool, a plan) and not how to spell it: the
    entropy of strategic decisions is logged on its own, and the entropy floor holds only there."""

    def ask(self, policy: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """(decisions, choices) log-probabilities of the valid decisions, row after row."""
        if self.kind is not None:
            return policy(self.observations, self.allowed)[self.kind[self.valid]]
        allowed = None if self.allowed is None else self.allowed[self.valid]
        return policy(self.observations[self.valid], allowed)

    def spread(self) -> tuple[Tensor, Tensor | None]:
        """Observations and what is allowed, decision by decision."""
        if self.kind is None:
            return self.observations, self.allowed
        return self.observations[self.kind], (
            None if self.allowed is None else self.allowed[self.kind]
        )


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What finished episodes were worth; tensors are (rows,) unless stated."""

    success: Tensor
    """The task was solved (bool)."""
    rewards: dict[str, Tensor]
    """Reward components by name: (rows,) earned at the end, or (rows, turns) when they were."""
    score: Tensor | None = None
    """How much of the task was right (float32); with ``need`` it defines near misses."""
    need: Tensor | None = None
    """Score from which on the task counts as solved."""
    distances: dict[str, Tensor] = field(default_factory=dict)
    """(rows, turns) signed distance to the boundary of each constraint, positive beyond it; NaN
    where the constraint did not apply."""
    bonuses: dict[str, Tensor] = field(default_factory=dict)
    """(rows, turns) auxiliary rewards that only a softened arm may use, such as parallelism."""
    ratings: dict[str, Tensor] = field(default_factory=dict)
    """(rows, raters) what the raters said of a component, before it was averaged."""
    confidence: dict[str, Tensor] = field(default_factory=dict)
    """(rows,) how sure the raters of a component were, in [0, 1]."""
    delay: dict[str, Tensor] = field(default_factory=dict)
    """(rows,) int64: steps after which a component is known; 0 is at once."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Further columns of the trajectories table, one value a row (tensors or lists)."""


class Play(Protocol):
    """A batch of episodes in progress."""

    def turn(self) -> Turn | None:
        """What the policy has to decide next; None when all episodes have ended."""

    def act(self, actions: Tensor) -> None:
        """Carry out the choices of the turn: (rows, decisions) int64."""

    def outcome(self) -> Outcome:
        """What the finished episodes were worth."""


class Environment(Protocol):
    """A task family; made once per run from its configuration and a generator."""

    @property
    def features(self) -> int:
        """Width of an observation."""

    @property
    def choices(self) -> int:
        """Most choices a decision has."""

    @property
    def prompts(self) -> int:
        """Prompts in a step; the trajectories of a prompt form a group."""

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons it is evaluated at; the first is trained at unless a sampler says more."""

    @property
    def prior(self) -> Tensor | None:
        """(choices,) logits of the untrained policy; None: uniform."""

    def advance(self, step: int, steps: int) -> None:
        """Let the world be what it is at ``step`` of ``steps``, such as a new mixture of data."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> Play:
        """Open one episode a row: prompt (rows,) int64, horizon (rows,) int64 in turns.

        All chance of the episodes comes from ``generator``.
        """


class EnvironmentConfig(Protocol):
    """Size and difficulty of an environment: a dataclass that can be built."""

    def build(self, generator: torch.Generator) -> Environment:
        """The environment of one run; all it draws comes from ``generator``."""
