"""The orchestrator's world: one policy picks tools, writes calls and directs frozen sub-agents.

An episode has a budget of turns. In the first the policy picks a tool, in the second it writes the
call: syntax, answers, and 100 to 2,000 tokens of arguments (see `call`). In every further turn it
gives an order: work with so many sub-agents in parallel, plan, or refuse (see `orders`). An episode
succeeds when the call parses *and* the tool is right *and* enough answers are right *and* the work
is done within the budget and the limit.

What can go wrong, with nothing scripted:

- Raters see only the surface of a call that does not parse: the popular tool pays before the right
  one can, and who settles on it never finds the right ones (premature specialisation).
- A family of prompts shares a rule, and one of its prompts is an exception; groups become solved or
  failed and their contrast vanishes (estimator collapse).
- Ratings come from sources of unlike scale and noise, and calls are of unlike length: few
  trajectories make the update (gradient domination).
- Going over the limit costs, and the width that is safe changes with every turn: one sub-agent is
  always safe, and too slow for most prompts (constraint cliff).
- A plan goes stale after a few turns of work. Planning anew costs a turn, which a short budget
  cannot pay back and a long one cannot do without (horizon regression).
"""

import math

import torch
from torch import Tensor

from mmhealth.reference.environments.orchestrator.config import OrchestratorConfig
from mmhealth.reference.environments.orchestrator.episode import Episode
from mmhealth.reference.environments.orchestrator.layout import (
    ANSWERS,
    CHOICES,
    MODALITIES,
    TOKENS,
    TOOLS,
    WIDEST,
    Layout,
)

SOURCES = ("verifier", "human", "implicit")
CAPABILITIES = ("reasoning", "coding", "agent")


class Orchestrator:
    """The prompts of one run, drawn from ``generator``; tensors are (prompts,) unless stated."""

    choices = CHOICES
    prior: Tensor | None
    family: Tensor
    """Tool family (int64)."""
    exception: Tensor
    """The answers differ from the family's rule (bool)."""
    tool: Tensor
    """The right tool (int64)."""
    answers: Tensor
    """(prompts, slots) the right answers (int64)."""
    need: Tensor
    """Right answers asked for (int64)."""
    private: Tensor
    """(prompts, private features) what tells the prompts of a family apart (float32)."""
    syntax: Tensor
    """(slots,) the right syntax tokens (int64)."""
    code: Tensor
    """(modalities * tokens,) the right token for every symbol of every modality (int64)."""
    length: Tensor
    """Argument tokens of the call (int64)."""
    limit: Tensor
    """Load allowed in a turn (float32)."""
    pace: Tensor
    """Subtasks to be finished per turn of work (float32)."""
    modality: Tensor
    """Index in `MODALITIES` (int64)."""
    source: Tensor
    """Index in `SOURCES` (int64)."""

    def __init__(self, config: OrchestratorConfig, generator: torch.Generator) -> None:
        self.config = config
        self.horizons = config.horizons
        self.prior = torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0, -3.0])
        families, each = config.families, config.prompts_per_family
        self.prompts = prompts = families * each
        self.layout = Layout(families, config.private_features, config.slots)
        self.features = self.layout.features

        def shuffled(values: Tensor) -> Tensor:
            return values[torch.randperm(len(values), generator=generator)]

        def spread(low: float, high: float) -> Tensor:
            return shuffled(torch.linspace(low, high, prompts))

        def drawn(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, shape, generator=generator)

        self.family = torch.arange(prompts) // each
        self.exception = torch.arange(prompts) % each == each - 1
        popular = shuffled(torch.arange(families) < config.popular_families)
        self.tool = torch.where(popular, 0, drawn(1, TOOLS, families))[self.family]
        rule = drawn(0, ANSWERS, families, config.slots)[self.family]
        shift = drawn(1, ANSWERS, prompts, config.slots)
        self.answers = torch.where(self.exception[:, None], (rule + shift) % ANSWERS, rule)
        self.need = drawn(config.need[0], config.need[1] + 1, prompts)
        private = torch.randn(prompts, config.private_features, generator=generator)
        self.private = config.private_scale * private / config.private_features**0.5
        self.syntax = drawn(0, TOKENS, config.slots)
        self.code = torch.cat([torch.randperm(TOKENS, generator=generator) for _ in MODALITIES])
        self.length = spread(*map(math.log, config.length)).exp().round().long()
        self.limit = spread(*config.limit)
        self.pace = spread(*config.pace) * config.finish * self._full_width()
        self.modality = shuffled(torch.arange(prompts) % len(MODALITIES))
        self.source = shuffled(_shared_out(prompts, config.source_shares))

    def advance(self, step: int, steps: int) -> None:
        """Nothing changes here."""

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> Episode:
        """Open one episode a row."""
        return Episode(self, prompt, horizon, generator)

    def labels(self, prompt: Tensor) -> dict[str, list[str]]:
        """``source``, ``capability`` and ``modality`` of every row."""
        return {
            "source": [SOURCES[i] for i in self.source[prompt].tolist()],
            "capability": [CAPABILITIES[i % 3] for i in self.family[prompt].tolist()],
            "modality": [MODALITIES[i] for i in self.modality[prompt].tolist()],
        }

    def _full_width(self) -> Tensor:
        """(prompts,) mean over unit loads of the widest order within the limit."""
        units = torch.linspace(*self.config.unit_load, 201)
        return (self.limit[:, None] / units).floor().clamp(1, WIDEST).mean(1)


def _shared_out(count: int, shares: tuple[float, ...]) -> Tensor:
    """(count,) int64: indices of ``shares``, each as often as its share says."""
    ends = (torch.tensor(shares).cumsum(0) * count).round()
    return torch.bucketize(torch.arange(count).float(), ends, right=True).clamp(max=len(shares) - 1)
