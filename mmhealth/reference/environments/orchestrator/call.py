"""The call: syntax that must parse, a few answers that matter, and many tokens of arguments.

Syntax is the same for all calls. The right answers are those of the family's rule, unless the
prompt is an exception; only faint private features tell which it is. Every argument token shows a
symbol and has one right spelling, by a code of the prompt's modality. All is decided at once.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmhealth.reference.environment import Turn
from mmhealth.reference.environments.orchestrator.layout import (
    ANSWERS,
    MODALITIES,
    TOKENS,
    first,
)

if TYPE_CHECKING:
    from mmhealth.reference.environments.orchestrator.world import Orchestrator


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; tensors are (rows,)."""

    syntax: Tensor
    """Right syntax tokens (int64)."""
    answers: Tensor
    """Right answers (int64)."""
    arguments: Tensor
    """Share of the argument tokens that are right (float32)."""


class Call:
    """The calls of a batch, to be written in one turn."""

    def __init__(self, world: "Orchestrator", prompt: Tensor, generator: torch.Generator) -> None:
        self._world = world
        self._prompt = prompt
        self._valid = torch.arange(int(world.length.max())) < world.length[prompt][:, None]
        shown = torch.randint(0, TOKENS, self._valid.shape, generator=generator)
        self._symbol = shown + TOKENS * world.modality[prompt][:, None]

    def turn(self) -> Turn:
        """Syntax, answers, arguments: (rows, 2 * slots + longest call) decisions."""
        world, rows, slots = self._world, len(self._prompt), self._world.config.slots
        symbols = TOKENS * len(MODALITIES)
        syntax = world.layout.observe("syntax", (slots,), slot=torch.eye(slots))
        answers = world.layout.observe(
            "answer",
            (rows, slots),
            family=torch.eye(world.config.families)[world.family[self._prompt]][:, None],
            private=world.private[self._prompt][:, None],
            slot=torch.eye(slots),
        ).flatten(0, 1)
        arguments = world.layout.observe("argument", (symbols,), symbol=torch.eye(symbols))
        nothing = torch.zeros_like(arguments[:1])
        slot, row = torch.arange(slots), torch.arange(rows)[:, None]
        past = slots * (1 + rows)
        return Turn(
            observations=torch.cat([syntax, answers, arguments, nothing]),
            allowed=torch.cat(
                [
                    first(TOKENS, (slots,)),
                    first(ANSWERS, (rows * slots,)),
                    first(TOKENS, (symbols + 1,)),
                ]
            ),
            kind=torch.cat(
                [
                    slot.expand(rows, slots),
                    slots * (1 + row) + slot,
                    past + self._symbol.masked_fill(~self._valid, symbols),
                ],
                1,
            ),
            valid=torch.cat([torch.ones(rows, 2 * slots, dtype=torch.bool), self._valid], 1),
        )

    def write(self, actions: Tensor) -> Written:
        """What the choices (rows, decisions) are worth."""
        world, slots = self._world, self._world.config.slots
        syntax, answers, arguments = actions.tensor_split([slots, 2 * slots], 1)
        right = (arguments == world.code[self._symbol]) & self._valid
        return Written(
            syntax=(syntax == world.syntax).sum(1),
            answers=(answers == world.answers[self._prompt]).sum(1),
            arguments=right.sum(1) / self._valid.sum(1),
        )
