"""Environment F5: what pays within a short budget of turns is not what pays within a long one.

A task is a chain of units to be finished within a budget of turns, one operation a turn. Executing
a unit fails now and then and throws the work back to the last checkpoint. A checkpoint costs a
turn, and so does planning, which makes execution more reliable, though only every second level of
it does: half a plan is a turn lost. The shortest budget has no turn to spare, so that a policy
trained there unlearns everything but to execute, and on long chains one failure then costs all.
The observation says how long the budget is; nothing but training keeps a policy from using it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn

EXECUTE, PLAN, CHECKPOINT, WAIT = range(4)
"""The operations."""


@dataclass(kw_only=True, slots=True)
class HorizonBudgetConfig:
    """Size and difficulty of the environment."""

    prompts: int = 32
    """Groups in a step; all tasks of a horizon are alike."""
    horizons: tuple[int, ...] = (6, 10, 16, 25)
    """Budgets in turns; trained at the first unless a sampler says more."""
    units: tuple[int, ...] = (6, 8, 12, 17)
    """Units to finish within each budget."""
    failure: tuple[float, ...] = (0.2, 0.2, 0.12, 0.12, 0.08)
    """Probability that executing fails, by level of planning."""
    progress_reward: float = 0.3
    """Reward of all units beside that of success; each counts its share."""
    prior: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Logits of the untrained policy: it leans to executing."""

    def build(self, generator: torch.Generator) -> "HorizonBudget":
        """The world of one run; it is the same in all of them."""
        return HorizonBudget(self)


class HorizonBudget:
    """Chains of units and their budgets."""

    choices = 4
    features = 13

    def __init__(self, config: HorizonBudgetConfig) -> None:
        self.config = config
        self.prompts = config.prompts
        self.horizons = config.horizons
        self.prior = torch.tensor(config.prior)
        self.failure = torch.tensor(config.failure)
        self._units = torch.zeros(max(config.horizons) + 1, dtype=torch.long)
        self._units[list(config.horizons)] = torch.tensor(config.units)

    def units(self, horizon: Tensor) -> Tensor:
        """Units to finish within each budget: (rows,) int64 twice.

        Raises ValueError for a budget that the configuration does not have.
        """
        strange = sorted(set(horizon.tolist()) - set(self.horizons))
        if strange:
            raise ValueError(f"horizon {strange[0]} is not one of {self.horizons}")
        return self._units[horizon]

    def advance(self, step: int, steps: int) -> None:
        """Nothing changes here."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Chain":
        """Episodes of at most ``horizon`` turns; ``generator`` decides what fails."""
        return Chain(self, horizon, generator)


class Chain:
    """Episodes of one operation a turn; they end when the chain is finished or the budget is."""

    def __init__(self, world: HorizonBudget, horizon: Tensor, generator: torch.Generator) -> None:
        self._world = world
        self._horizon = horizon
        self._generator = generator
        self._units = world.units(horizon)
        self._played = 0
        self._level = torch.zeros_like(horizon)
        self._done = torch.zeros_like(horizon)
        self._kept = torch.zeros_like(horizon)
        """Units behind the last checkpoint."""

    def turn(self) -> Turn | None:
        """The next operation of the episodes that go on."""
        goes_on = self._goes_on()
        if not bool(goes_on.any()):
            return None
        return Turn(
            observations=(self._observed() * goes_on[:, None])[:, None, :],
            valid=goes_on[:, None],
            strategic=True,
        )

    def act(self, actions: Tensor) -> None:
        """Carry out one operation (rows, 1) where the episode goes on."""
        operation = torch.where(self._goes_on(), actions[:, 0], WAIT)
        chance = torch.rand(len(operation), generator=self._generator)
        failed = chance < self._world.failure[self._level]
        after = torch.where(failed, self._kept, self._done + 1)
        self._done = torch.where(operation == EXECUTE, after, self._done)
        self._kept = torch.where(operation == CHECKPOINT, self._done, self._kept)
        deepest = len(self._world.failure) - 1
        self._level = (self._level + (operation == PLAN)).clamp(max=deepest)
        self._played += 1

    def outcome(self) -> Outcome:
        """Solved where all units are finished."""
        success = self._done >= self._units
        progress = self._done / self._units
        return Outcome(
            success=success,
            rewards={"task": success + self._world.config.progress_reward * progress},
            score=self._done.float(),
            need=self._units.float(),
            columns={"plan_level": self._level, "checkpointed": self._kept},
        )

    def _goes_on(self) -> Tensor:
        return (self._played < self._horizon) & (self._done < self._units)

    def _observed(self) -> Tensor:
        """(rows, features) float32."""
        left = (self._horizon - self._played).float()
        missing = (self._units - self._done).float()
        at_risk = (self._done - self._kept).float()
        level = self._level
        return torch.stack(
            [
                torch.ones_like(left),
                (self._horizon - 14) / 6,
                left / 12,
                missing / 9,
                at_risk / 5,
                (at_risk >= 1).float(),
                (at_risk >= 3).float(),
                level / 2,
                (level == 2).float(),
                (level == 4).float(),
                torch.full_like(left, float(self._played == 0)),
                (left - missing) / 3,
                (missing / left.clamp(min=1)).clamp(max=2),
            ],
            1,
        )
