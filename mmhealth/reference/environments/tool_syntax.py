"""Environment F1: raters cannot judge the choice of a tool before its call parses.

Every prompt is a context that asks for one tool. The first turn chooses it; the second spells the
call, one symbol a slot, in the syntax of the tool that was chosen. A verifier scores the syntax.
Raters are to say whether the tool was right, and can only where the call parses; elsewhere they
judge by the surface: an answer in prose (tool 0) reads well whatever it was asked, they are less
sure, and they agree less.

Early in training hardly anything parses, so the preference pays for prose in every context. The
choice of tool is one decision and specialises within a few steps, the syntax is many and takes
longer: when calls parse at last and raters begin to tell right from wrong, the other tools are no
longer sampled. Entropy of the many syntax decisions hides it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn

PROSE = 0
"""The tool that is none: the answer is written out."""


@dataclass(kw_only=True, slots=True)
class ToolSyntaxConfig:
    """Size and difficulty of the environment."""

    contexts: int = 8
    """Number of prompts; every step samples a group for each."""
    tools: int = 6
    """Tools to choose from, prose among them."""
    slots: int = 8
    """Symbols of a call."""
    symbols: int = 4
    """Symbols to choose from at a slot."""
    own_slots: int = 2
    """Slots whose right symbol differs from tool to tool; the others are alike for all tools."""
    need: int = 6
    """Right symbols from which on a call parses."""
    prose_contexts: int = 3
    """Contexts in which prose is right; the others draw one of the real tools."""
    surface: float = 0.55
    """What raters give prose that does not parse, on average; a right call that parses gets 1."""
    raters: int = 2
    """Raters of every trajectory."""
    noise: float = 0.3
    """Standard deviation of a rating where the call parses."""
    surface_noise: float = 0.7
    """The same where it does not."""
    confidence: float = 0.9
    """How sure raters are where the call parses, in [0, 1]."""
    surface_confidence: float = 0.4
    """The same where it does not."""
    late_share: float = 0.0
    """Share of trajectories whose ratings arrive late."""
    late_steps: int = 5
    """Steps by which they are late."""

    def build(self, generator: torch.Generator) -> "ToolSyntax":
        """The contexts and the syntax of one run."""
        return ToolSyntax(self, generator)


class ToolSyntax:
    """The contexts and the syntax of one run, drawn from ``generator``."""

    prior = None
    horizons = (2,)
    right_tool: Tensor
    """(contexts,) int64: the tool that the context asks for."""
    syntax: Tensor
    """(tools, slots) int64: the right symbols of a call."""

    def __init__(self, config: ToolSyntaxConfig, generator: torch.Generator) -> None:
        self.config = config
        self.prompts = config.contexts
        self.choices = max(config.tools, config.symbols)
        self.features = config.contexts + config.tools + config.slots + 1

        def draw(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, shape, generator=generator)

        self.right_tool = draw(PROSE + 1, config.tools, config.contexts)
        self.right_tool[: config.prose_contexts] = PROSE
        self.syntax = draw(0, config.symbols, config.slots).repeat(config.tools, 1)
        self.syntax[:, : config.own_slots] = draw(0, config.symbols, config.tools, config.own_slots)

    def advance(self, step: int, steps: int) -> None:
        """Nothing changes here."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Calling":
        """Episodes of two turns whatever ``horizon`` says; ``generator`` moves the raters."""
        return Calling(self, prompt, generator)


class Calling:
    """Episodes that choose a tool, then spell the call."""

    def __init__(self, world: ToolSyntax, prompt: Tensor, generator: torch.Generator) -> None:
        self._world = world
        self._prompt = prompt
        self._generator = generator
        self._actions: list[Tensor] = []

    def turn(self) -> Turn | None:
        """First the tool, then all slots at once."""
        if not self._actions:
            return self._choose()
        return self._spell(self._actions[0][:, 0]) if len(self._actions) == 1 else None

    def act(self, actions: Tensor) -> None:
        """Choose the tool (rows, 1), or write the symbols (rows, slots)."""
        self._actions.append(actions)

    def outcome(self) -> Outcome:
        """Solved where the call parses and the tool was right."""
        world, config = self._world, self._world.config
        tool, symbols = self._actions[0][:, 0], self._actions[1]
        correct = (symbols == world.syntax[tool]).sum(1)
        parses = correct >= config.need
        right = tool == world.right_tool[self._prompt]
        opinion = torch.where(parses, right.float(), config.surface * (tool == PROSE))
        spread = torch.where(parses, config.noise, config.surface_noise)
        chance = torch.randn(len(tool), config.raters, generator=self._generator)
        ratings = opinion[:, None] + spread[:, None] * chance
        asks_prose = world.right_tool[self._prompt] == PROSE
        return Outcome(
            success=parses & right,
            rewards={"verifiable": correct / config.slots, "preference": ratings.mean(1)},
            ratings={"preference": ratings},
            confidence={
                "preference": torch.where(parses, config.confidence, config.surface_confidence)
            },
            delay={"preference": self._delay(len(tool))} if config.late_share else {},
            columns={
                "capability": ["prose" if flag else "tool" for flag in asks_prose.tolist()],
                "tool_calls": (tool != PROSE).long(),
                "parses": parses,
            },
        )

    def _delay(self, rows: int) -> Tensor:
        config = self._world.config
        late = torch.rand(rows, generator=self._generator) < config.late_share
        return config.late_steps * late.long()

    def _choose(self) -> Turn:
        config, rows = self._world.config, len(self._prompt)
        observations = torch.zeros(rows, 1, self._world.features)
        observations[:, 0, : config.contexts] = torch.eye(config.contexts)[self._prompt]
        return Turn(
            observations=observations,
            valid=torch.ones(rows, 1, dtype=torch.bool),
            allowed=self._first(config.tools, rows, 1),
            strategic=True,
        )

    def _spell(self, tool: Tensor) -> Turn:
        config, rows = self._world.config, len(tool)
        observations = torch.zeros(rows, config.slots, self._world.features)
        after_tools = config.contexts + config.tools
        observations[:, :, config.contexts : after_tools] = torch.eye(config.tools)[tool, None]
        observations[:, :, after_tools:-1] = torch.eye(config.slots)
        observations[:, :, -1] = 1
        return Turn(
            observations=observations,
            valid=torch.ones(rows, config.slots, dtype=torch.bool),
            allowed=self._first(config.symbols, rows, config.slots),
        )

    def _first(self, count: int, rows: int, decisions: int) -> Tensor:
        """(rows, decisions, choices) bool: the first ``count`` choices."""
        return (torch.arange(self._world.choices) < count).expand(rows, decisions, -1)
