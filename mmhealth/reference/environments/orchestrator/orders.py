"""Orders: work in parallel, plan or refuse, until the work is done or the budget is spent.

Every sub-agent that is started finishes its subtask by chance; what it did is an observation, and
it is never trained. Together they are a load on a limit that is known only roughly in advance: a
turn beyond it is cut off and finishes nothing. A plan lasts some turns of work; after that fewer
and fewer subtasks are finished, until a turn is spent on planning anew.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmhealth.reference.environment import Turn
from mmhealth.reference.environments.orchestrator.layout import PLAN, REFUSE, WIDEST

if TYPE_CHECKING:
    from mmhealth.reference.environments.orchestrator.world import Orchestrator


class Orders:
    """The work of a batch; tensors are (rows,) unless stated."""

    def __init__(
        self, world: "Orchestrator", prompt: Tensor, turns: Tensor, generator: torch.Generator
    ) -> None:
        config, rows, most = world.config, len(prompt), int(turns.max())
        self._world = world
        self._turns = turns
        self._limit = world.limit[prompt]
        low, high = config.unit_load
        self._unit = low + (high - low) * torch.rand(rows, most, generator=generator)
        self._surprise = (config.load_noise * torch.randn(rows, most, generator=generator)).exp()
        self._luck = torch.rand(rows, most, WIDEST, generator=generator)
        self._age = torch.zeros(rows)
        self._now = 0
        self.work = (world.pace[prompt] * turns).round().clamp(min=1)
        """Subtasks to finish."""
        self.done = torch.zeros(rows)
        """Subtasks finished."""
        self.refused = torch.zeros(rows, dtype=torch.bool)
        """Gave up."""
        self.widths = torch.zeros(rows, most)
        """(rows, turns) sub-agents started."""
        self.distance = torch.full((rows, most), torch.nan)
        """(rows, turns) load beyond the limit; NaN where none was started."""

    @property
    def finished(self) -> Tensor:
        """All subtasks are done."""
        return self.done >= self.work

    @property
    def parallel(self) -> Tensor:
        """(rows, turns) share of the budget that the turn spent on working in parallel."""
        return (self.widths >= 2) / self._turns[:, None]

    def turn(self) -> Turn | None:
        """The next order; None when no episode needs one."""
        active = self._active()
        if not bool(active.any()):
            return None
        left = self._turns - self._now
        remaining = self.work - self.done
        fits = self._limit / self._unit[:, self._now]
        seen = torch.stack(
            [
                self._turns / 25,
                left / 25,
                remaining / self.work,
                (remaining / left.clamp(min=1) / WIDEST).clamp(max=2),
                self._limit / 7,
                *[torch.sigmoid(4 * (fits - width)) for width in range(2, WIDEST + 1)],
                self._age / 8,
                (self._age > self._world.config.plan_lasts).float(),
            ],
            1,
        )
        observations = self._world.layout.observe("order", (len(seen), 1), order=seen[:, None])
        return Turn(
            observations=observations * active[:, None, None],
            valid=active[:, None],
            strategic=True,
        )

    def give(self, order: Tensor) -> None:
        """Carry out the orders (rows,)."""
        config, now, active = self._world.config, self._now, self._active()
        working = active & (order < WIDEST)
        width = torch.where(working, order + 1, 0)
        load = width * self._unit[:, now] * self._surprise[:, now]
        beyond = load - self._limit
        self.distance[:, now] = torch.where(working, beyond, torch.nan)
        chance = config.finish * config.stale ** (self._age - config.plan_lasts).clamp(min=0)
        started = torch.arange(WIDEST) < width[:, None]
        finished = (started & (self._luck[:, now] < chance[:, None])).sum(1)
        finished = finished * (beyond <= 0)
        self.done = torch.minimum(self.done + finished, self.work)
        self.widths[:, now] = width
        self._age = torch.where(active & (order == PLAN), 0.0, self._age + working.float())
        self.refused |= active & (order == REFUSE)
        self._now += 1

    def _active(self) -> Tensor:
        return (self._now < self._turns) & ~self.finished & ~self.refused
