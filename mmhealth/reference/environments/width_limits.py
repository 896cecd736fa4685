"""Environment F4: how many sub-agents to start at once, next to a cliff.

A task is a number of subtasks and a few turns to finish them in. Every turn the policy picks a
*width*: so many frozen sub-agents start in parallel, each finishes one subtask or fails; a width of
0 refuses and ends the episode. A turn has a limit, of which the policy can only roughly foresee
whether a width keeps it, and which is of one of two kinds:

- ``load``: what the sub-agents of a turn use up together must stay below it. The width that is
  always safe is 1: a policy that flees the cliff goes *serial* and runs out of turns.
- ``latency``: the work of a turn must be done in time, and redundant sub-agents hurry it. Always
  safe is the greatest width: a policy that flees starts *needless* sub-agents, more than there
  are subtasks, until the pool that pays for them is empty.

Either way the constraint is satisfied and the task is not done; a hard penalty tells nothing about
which side of the boundary is near, and nothing here is scripted.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn

ConstraintKind = Literal["load", "latency"]


@dataclass(kw_only=True, slots=True)
class WidthLimitsConfig:
    """Size and difficulty of the environment."""

    constraint: ConstraintKind = "load"
    """What is limited."""
    prompts: int = 32
    """Number of prompts; their limits are spread evenly."""
    turns: int = 8
    """Turns an episode may take."""
    max_width: int = 6
    """Most sub-agents in a turn."""
    limit_low: float = 3.0
    """Tightest limit, in units of load or of time."""
    limit_high: float = 8.0
    """Most generous limit."""
    unit_low: float = 0.6
    """Smallest load, or time, of one subtask."""
    unit_high: float = 2.0
    """Largest one."""
    jitter: float = 0.1
    """Standard deviation of its logarithm that nobody can foresee."""
    work_low: float = 0.25
    """Fewest subtasks, as a share of what running at the limit in all turns could finish."""
    work_high: float = 0.5
    """Most subtasks, likewise."""
    reliability: float = 0.92
    """Chance that a sub-agent finishes its subtask."""
    progress_reward: float = 0.3
    """Reward for all subtasks together; finishing earns 1 beside it."""
    pool: float | None = None
    """Sub-agents that may be started per subtask in an episode; None: any number."""
    prior: tuple[float, ...] = (-1.5, 1.5, 1.0, 0.0, -1.0, -2.0, -3.0)
    """Logits of the widths before training."""

    def build(self, generator: torch.Generator) -> "WidthLimits":
        """The prompts of one run; nothing is drawn."""
        return WidthLimits(self)


class WidthLimits:
    """Prompts with limits from the tightest to the most generous."""

    limit: Tensor
    """(prompts,) float32: boundary of a turn."""

    def __init__(self, config: WidthLimitsConfig) -> None:
        self.config = config
        self.prompts = config.prompts
        self.choices = config.max_width + 1
        self.features = 6 + 2 * config.max_width
        self.horizons = (config.turns,)
        self.prior: Tensor | None = torch.tensor(config.prior)
        step = (config.limit_high - config.limit_low) / config.prompts
        self.limit = config.limit_low + step * (torch.arange(config.prompts) + 0.5)

    def advance(self, step: int, steps: int) -> None:
        """Nothing changes here."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Orchestration":
        """Episodes of up to ``horizon`` turns."""
        return Orchestration(self, self.limit[prompt], horizon, generator)


class Orchestration:
    """Episodes under way; tensors are (rows,) unless stated."""

    def __init__(
        self, world: WidthLimits, limit: Tensor, horizon: Tensor, generator: torch.Generator
    ) -> None:
        config = world.config
        self._config = config
        self._limit = limit
        self._horizon = horizon
        self._generator = generator
        share = config.work_low + (config.work_high - config.work_low) * self._uniform()
        typical = (config.unit_low + config.unit_high) / 2
        widest = limit / typical
        self.subtasks = (share * horizon * widest).round().clamp(min=1)
        self.remaining = self.subtasks.clone()
        self.left = torch.full_like(limit, torch.inf)
        if config.pool is not None:
            self.left = (config.pool * self.subtasks).round()
        self.alive = torch.ones_like(limit, dtype=torch.bool)
        self._unit = torch.zeros_like(limit)
        self._turn = 0
        self._zero = torch.zeros_like(limit)
        self._started, self._needless, self._calls = (self._zero.clone() for _ in range(3))
        self._widest = self._zero.clone()
        self._refused = torch.zeros_like(self.alive)
        self._rewards: list[Tensor] = []
        self._distances: list[Tensor] = []
        self._bonuses: list[Tensor] = []

    def turn(self) -> Turn | None:
        """Pick a width each."""
        self.alive = self.alive & (self._turn < self._horizon)
        if not bool(self.alive.any()):
            return None
        low, high = self._config.unit_low, self._config.unit_high
        self._unit = low + (high - low) * self._uniform()
        return Turn(
            observations=(self._observations() * self.alive[:, None]).unsqueeze(1),
            valid=self.alive.unsqueeze(1),
            strategic=True,
        )

    def act(self, actions: Tensor) -> None:
        """Start the sub-agents, see what they finish and what it took."""
        config = self._config
        width = torch.minimum(actions[:, 0].float(), self.left) * self.alive
        runs = self.alive & (width > 0)
        useful = torch.minimum(width, self.remaining)
        tries = torch.rand(len(width), config.max_width, generator=self._generator)
        slot = torch.arange(config.max_width)
        done = ((tries < config.reliability) & (slot < useful[:, None])).sum(1).float()
        jitter = (config.jitter * torch.randn(len(width), generator=self._generator)).exp()
        distance = self._used(width) * jitter - self._limit
        self._distances.append(distance.masked_fill(~runs, torch.nan))
        self._bonuses.append(self._well_chosen(width) & runs)
        self.remaining = self.remaining - done
        finished = runs & (self.remaining <= 0)
        self._rewards.append(config.progress_reward * done / self.subtasks + finished.float())
        self.left = self.left - width
        self._started += width
        self._needless += width - useful
        self._calls += runs
        self._widest = torch.maximum(self._widest, width)
        self._refused |= self.alive & (actions[:, 0] == 0)
        self.alive = runs & ~finished
        self._turn += 1

    def outcome(self) -> Outcome:
        """Solved where no subtask remains."""
        name = self._config.constraint
        bonus = torch.stack(self._bonuses, 1).float() / self._config.turns
        return Outcome(
            success=self.remaining <= 0,
            rewards={"task": torch.stack(self._rewards, 1)},
            distances={name: torch.stack(self._distances, 1)},
            bonuses={name: bonus},
            columns={
                "refused": self._refused,
                "serial": self._widest <= 1,
                "subagents": self._started.long(),
                "needless": self._needless.long(),
                "tool_calls": self._calls.long(),
            },
        )

    def _used(self, width: Tensor) -> Tensor:
        """Load of the turn, or its latency: foreseen, in units of the limit."""
        if self._config.constraint == "load":
            return self._unit * width
        return self._unit * self.remaining / width.clamp(min=1)

    def _well_chosen(self, width: Tensor) -> Tensor:
        """What a bonus may reward: parallel work under a load limit, else no needless start."""
        if self._config.constraint == "load":
            return width >= 2
        return width <= self.remaining

    def _observations(self) -> Tensor:
        """(rows, features): the boundary's width, seen roughly, and what is left to do with it."""
        config, limit = self._config, self._limit
        widths = torch.arange(1, config.max_width + 1)
        if config.constraint == "load":
            boundary = limit / self._unit
        else:
            boundary = self._unit * self.remaining / limit
        numbers = [
            limit / config.limit_high,
            self._unit,
            boundary / config.max_width,
            self.remaining / self.subtasks,
            1 - self._turn / self._horizon,
            (self.left / self.subtasks).clamp(max=2.0),
        ]
        return torch.cat(
            [
                torch.stack(numbers, 1),
                torch.sigmoid(4 * (boundary[:, None] - widths)),
                (self.remaining[:, None] >= widths).float(),
            ],
            1,
        )

    def _uniform(self) -> Tensor:
        return torch.rand(len(self._limit), generator=self._generator)
