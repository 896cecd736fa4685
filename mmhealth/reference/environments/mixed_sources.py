"""Environment F3: three sources of reward, and trajectories of 100 to 2000 tokens, in one batch.

A trajectory is a row of tokens. Every hundredth picks a tool, which depends on the capability that
the prompt trains; the others spell arguments: each shows a symbol and asks for the answer that
belongs to it, in images more faintly than in text. A *verifier*, *human* raters or *implicit* usage
signals reward the same quality, each on a scale and with a noise of its own.

The norm of a trajectory's gradient grows with its advantage and the square root of its length. The
few trajectories of the loudest source therefore make most of every update, and bring most of its
noise: what the quiet, precise source has to say is drowned, although nothing here is scripted. The
mixture of sources may change half way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn

CAPABILITIES = ("reasoning", "coding", "agentic")
MODALITIES = ("text", "image")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where rewards come from: ``scale * quality + noise * N(0, 1)``, quality in [0, 1]."""

    name: str
    """What the log calls it."""
    scale: float
    """Reward of a perfect trajectory."""
    noise: float
    """Standard deviation of its judgement, in units of reward."""


@dataclass(kw_only=True, slots=True)
class MixedSourcesConfig:
    """Size and difficulty of the environment."""

    prompts: int = 16
    """Number of prompts; every step samples a group for each."""
    min_length: int = 100
    """Shortest trajectory, in tokens; lengths are log-uniform."""
    max_length: int = 2000
    """Longest trajectory."""
    tool_every: int = 100
    """Tokens from one tool decision to the next; the first token is one."""
    choices: int = 4
    """Tools, symbols and answers there are."""
    faintness: float = 0.5
    """Strength with which an image shows its symbols; text has 1."""
    need: float = 0.7
    """Share of right tools, and of right arguments, from which on a trajectory succeeds."""
    sources: tuple[Source, ...] = (
        Source(name="verifier", scale=1.0, noise=0.02),
        Source(name="human", scale=2.0, noise=0.2),
        Source(name="implicit", scale=4.0, noise=2.5),
    )
    """The sources of reward."""
    mixture: tuple[float, ...] = (0.7, 0.22, 0.08)
    """Share of the prompts that each source judges."""
    later_mixture: tuple[float, ...] | None = None
    """The shares from ``mixture_change`` on; None: they stay."""
    mixture_change: float = 0.5
    """Part of the run after which the mixture changes."""

    def build(self, generator: torch.Generator) -> "MixedSources":
        """The prompts of one run."""
        return MixedSources(self, generator)


class MixedSources:
    """The prompts of one run, drawn from ``generator``."""

    prior = None
    tools: Tensor
    """(capabilities,) int64: the right tool."""
    answers: Tensor
    """(choices,) int64: the right answer to each symbol."""
    capability: Tensor
    """(prompts,) int64: place in `CAPABILITIES`."""
    modality: Tensor
    """(prompts,) int64: place in `MODALITIES`."""
    source: Tensor
    """(prompts,) int64: who judges at present, place in ``config.sources``."""

    def __init__(self, config: MixedSourcesConfig, generator: torch.Generator) -> None:
        self.config = config
        self.prompts = config.prompts
        self.choices = config.choices
        self.horizons = (1,)
        self.features = len(CAPABILITIES) + len(MODALITIES) + 1 + config.choices

        def permutation(size: int) -> Tensor:
            return torch.randperm(size, generator=generator)

        self.tools = permutation(config.choices)[torch.arange(len(CAPABILITIES)) % config.choices]
        self.answers = permutation(config.choices)
        self.capability = permutation(config.prompts) % len(CAPABILITIES)
        self.modality = permutation(config.prompts) % len(MODALITIES)
        self._place = permutation(config.prompts)
        self.source = self._judges(config.mixture)
        self.kinds = self._kinds()

    def advance(self, step: int, steps: int) -> None:
        """Let the mixture be the later one once its time has come."""
        config = self.config
        changed = config.later_mixture is not None and step >= config.mixture_change * steps
        self.source = self._judges(
            config.later_mixture if changed and config.later_mixture else config.mixture
        )

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Writing":
        """Episodes of one turn; ``horizon`` has no say."""
        return Writing(self, prompt, generator)

    def _kinds(self) -> Tensor:
        """(kinds, features): modality and capability where a tool is due; modality and symbol,
        faint in images, where an argument is; nothing past the end."""
        modalities, capabilities = torch.eye(len(MODALITIES)), torch.eye(len(CAPABILITIES))
        tools = [
            torch.cat([capability, modality, torch.ones(1), torch.zeros(self.choices)])
            for modality in modalities
            for capability in capabilities
        ]
        arguments = [
            torch.cat([torch.zeros(len(CAPABILITIES)), modality, torch.zeros(1), strength * symbol])
            for modality, strength in zip(modalities, (1.0, self.config.faintness), strict=True)
            for symbol in torch.eye(self.choices)
        ]
        return torch.stack([*tools, *arguments, torch.zeros(self.features)])

    def _judges(self, shares: tuple[float, ...]) -> Tensor:
        """(prompts,) sources, as many prompts each as its share says."""
        ends = (torch.tensor(shares).cumsum(0) / sum(shares) * self.prompts).round()
        return torch.searchsorted(ends, self._place.float(), right=True)


class Writing:
    """Episodes in which all tokens are written at once."""

    length: Tensor
    """(rows,) int64: tokens."""
    is_tool: Tensor
    """(tokens,) bool: the token picks a tool."""
    right: Tensor
    """(rows, tokens) int64: the right choices."""

    def __init__(self, world: MixedSources, prompt: Tensor, generator: torch.Generator) -> None:
        config = world.config
        self._world = world
        self._prompt = prompt
        self._generator = generator
        self._actions: Tensor | None = None
        ratio = config.max_length / config.min_length
        drawn = torch.rand(len(prompt), generator=generator)
        self.length = (config.min_length * ratio**drawn).long().clamp(max=config.max_length)
        token = torch.arange(int(self.length.max()))
        self._valid = token < self.length[:, None]
        self.is_tool = token % config.tool_every == 0
        self._symbol = torch.randint(world.choices, self._valid.shape, generator=generator)
        tool = world.tools[world.capability[prompt]]
        self.right = torch.where(self.is_tool, tool[:, None], world.answers[self._symbol])

    def turn(self) -> Turn | None:
        """The only turn."""
        if self._actions is not None:
            return None
        world, prompt = self._world, self._prompt
        modality = world.modality[prompt][:, None]
        tools = len(MODALITIES) * len(CAPABILITIES)
        arguments = len(MODALITIES) * world.choices
        kind = torch.where(
            self.is_tool,
            modality * len(CAPABILITIES) + world.capability[prompt][:, None],
            tools + modality * world.choices + self._symbol,
        )
        return Turn(
            observations=world.kinds,
            valid=self._valid,
            kind=kind.masked_fill(~self._valid, tools + arguments),
        )

    def act(self, actions: Tensor) -> None:
        """Write all tokens."""
        self._actions = actions

    def outcome(self) -> Outcome:
        """Quality is the mean of the shares of right tools and right arguments."""
        world, prompt, config = self._world, self._prompt, self._world.config
        hit = (self._actions == self.right) & self._valid
        tools = self.is_tool & self._valid
        tool_share = (hit & tools).sum(1) / tools.sum(1)
        argument_share = (hit & ~tools).sum(1) / (self._valid & ~tools).sum(1).clamp(min=1)
        quality = (tool_share + argument_share) / 2
        source = world.source[prompt]
        scale = torch.tensor([one.scale for one in config.sources])[source]
        noise = torch.tensor([one.noise for one in config.sources])[source]
        judged = scale * quality + noise * torch.randn(len(prompt), generator=self._generator)
        return Outcome(
            success=torch.minimum(tool_share, argument_share) >= config.need,
            rewards={"task": judged},
            columns={
                "source": [config.sources[i].name for i in source.tolist()],
                "capability": [CAPABILITIES[i] for i in world.capability[prompt].tolist()],
                "modality": [MODALITIES[i] for i in world.modality[prompt].tolist()],
                "tool_calls": tools.sum(1),
                "quality": quality,
            },
        )
