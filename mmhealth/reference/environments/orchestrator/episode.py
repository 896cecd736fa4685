"""A batch of episodes: the tool, the call, then orders."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn
from mmhealth.reference.environments.orchestrator.call import Call, Written
from mmhealth.reference.environments.orchestrator.judges import quality, rate, verifiable
from mmhealth.reference.environments.orchestrator.layout import TOOLS, first
from mmhealth.reference.environments.orchestrator.orders import Orders

if TYPE_CHECKING:
    from mmhealth.reference.environments.orchestrator.world import Orchestrator

OVERHEAD = 2
"""Turns of the budget that go to the tool and the call."""


class Episode:
    """Episodes in progress; rows of any prompt and horizon."""

    def __init__(
        self, world: "Orchestrator", prompt: Tensor, horizon: Tensor, generator: torch.Generator
    ) -> None:
        self._world = world
        self._prompt = prompt
        self._generator = generator
        self._tool: Tensor | None = None
        self._written: Written | None = None
        self._call = Call(world, prompt, generator)
        self._orders = Orders(world, prompt, horizon - OVERHEAD, generator)

    def turn(self) -> Turn | None:
        """Tool, call, and orders while there is work and budget."""
        if self._tool is None:
            return self._pick()
        if self._written is None:
            return self._call.turn()
        return self._orders.turn()

    def act(self, actions: Tensor) -> None:
        """Carry out the choices of the turn."""
        if self._tool is None:
            self._tool = actions[:, 0]
        elif self._written is None:
            self._written = self._call.write(actions)
        else:
            self._orders.give(actions[:, 0])

    def outcome(self) -> Outcome:
        """Solved where call, tool, answers and work are all as they should be."""
        world, prompt, orders, written = self._world, self._prompt, self._orders, self._written
        assert written is not None
        assert self._tool is not None
        need = world.need[prompt]
        parses = written.syntax >= world.config.slots - world.config.syntax_slip
        tool_right = self._tool == world.tool[prompt]
        missing = (~parses).long() + (~tool_right).long() + (~orders.finished).long()
        right = written.answers
        score = torch.where(missing > 0, torch.minimum(right, need - missing), right)
        seen = quality(
            tool_right.float(),
            (right >= need).float(),
            (self._tool == 0).float(),
            parses,
            world.config.surface,
        )
        ratings, confidence, delay = rate(world, prompt, seen, parses, self._generator)
        return Outcome(
            success=score >= need,
            rewards={
                "verifiable": verifiable(world.config.slots, written, orders),
                "preference": ratings.mean(1),
            },
            score=score.float(),
            need=need.float(),
            distances={"load": _after_the_call(orders.distance, torch.nan)},
            bonuses={"load": _after_the_call(orders.parallel, 0.0)},
            ratings={"preference": ratings},
            confidence={"preference": confidence},
            delay={"preference": delay},
            columns=world.labels(prompt)
            | {
                "exception": world.exception[prompt],
                "syntax": written.syntax,
                "answers": right,
                "arguments": written.arguments,
                "parses": parses,
                "tool_right": tool_right,
                "finished": orders.finished,
                "refused": orders.refused,
                "subagents": orders.widths.sum(1).long(),
                "serial": orders.widths.amax(1) <= 1,
            },
        )

    def _pick(self) -> Turn:
        world, rows = self._world, len(self._prompt)
        return Turn(
            observations=world.layout.observe(
                "tool",
                (rows, 1),
                family=torch.eye(world.config.families)[world.family[self._prompt]][:, None],
                private=world.private[self._prompt][:, None],
            ),
            valid=torch.ones(rows, 1, dtype=torch.bool),
            allowed=first(TOOLS, (rows, 1)),
            strategic=True,
        )


def _after_the_call(values: Tensor, before: float) -> Tensor:
    """(rows, turns of work) as (rows, turns), with ``before`` in the turns until then."""
    return torch.cat([torch.full((len(values), OVERHEAD), before), values], 1)
