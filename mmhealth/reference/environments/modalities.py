"""Environment "modalities": text and images ask for the same concepts through different features.

Every concept has one right answer. A prompt shows it as text or as an image: two unrelated linear
embeddings into the same features, and a flag that says which. One small policy has to read both.
How many of a step's prompts are images is a schedule: many of them late and few of them early can
be the same number of prompts in total.

What has been learned of text answers images too, firmly and wrongly, until it is unlearned: a
policy that has become certain no longer samples what would correct it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome, Turn


@dataclass(kw_only=True, slots=True)
class ModalitiesConfig:
    """Size and difficulty of the environment, and when images come."""

    prompts: int = 40
    """Concepts; every step shows each of them to a group, as text or as an image."""
    latent: int = 6
    """Numbers that make a concept."""
    features: int = 12
    """Features that both modalities share."""
    answers: int = 8
    """Answers to choose from."""
    schedule: tuple[tuple[float, float], ...] = ((0.75, 0.0), (1.0, 0.8))
    """(share of the run until which, share of prompts that are images)."""

    def build(self, generator: torch.Generator) -> "Modalities":
        """The concepts of one run."""
        return Modalities(self, generator)


class Modalities:
    """The concepts of one run, drawn from ``generator``."""

    prior = None
    horizons = (1,)
    observations: Tensor
    """(2, prompts, features) float32: text, then images."""
    right: Tensor
    """(prompts,) int64: the right answers."""
    image: Tensor
    """(prompts,) bool: what shows as an image now."""

    def __init__(self, config: ModalitiesConfig, generator: torch.Generator) -> None:
        self.config = config
        self.prompts = config.prompts
        self.choices = config.answers
        self.features = config.features + 2

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        concept = normal(config.prompts, config.latent)
        self.right = (concept @ normal(config.latent, config.answers)).argmax(1)
        embedding = normal(2, config.latent, config.features) / config.latent**0.5
        flag = torch.eye(2)[:, None].expand(-1, config.prompts, -1)
        self.observations = torch.cat([concept @ embedding, flag], 2)
        self.show(0.0)

    def advance(self, step: int, steps: int) -> None:
        """Show as many images as the schedule says of this step."""
        ahead = [share for until, share in self.config.schedule if step < until * steps]
        self.show(ahead[0] if ahead else self.config.schedule[-1][1], turn=step)

    def show(self, share: float, turn: int = 0) -> None:
        """Show a share of the concepts as images, others with every ``turn``.

        Held-out evaluations see the same mixture; call it before one to see text or images alone.
        """
        images = round(share * self.prompts)
        self.image = (torch.arange(self.prompts) - turn * images) % self.prompts < images

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Answering":
        """Episodes of one turn; neither ``horizon`` nor ``generator`` has a say."""
        return Answering(self, prompt)


class Answering:
    """Episodes of one decision: the answer."""

    def __init__(self, world: Modalities, prompt: Tensor) -> None:
        self._world = world
        self._prompt = prompt
        self._image = world.image[prompt]
        self._actions: Tensor | None = None

    def turn(self) -> Turn | None:
        """The only turn."""
        if self._actions is not None:
            return None
        observations = self._world.observations[self._image.long(), self._prompt]
        return Turn(
            observations=observations[:, None],
            valid=torch.ones(len(observations), 1, dtype=torch.bool),
        )

    def act(self, actions: Tensor) -> None:
        """Give the answer (rows, 1)."""
        self._actions = actions

    def outcome(self) -> Outcome:
        """Solved where the answer is right."""
        assert self._actions is not None
        success = self._actions[:, 0] == self._world.right[self._prompt]
        return Outcome(
            success=success,
            rewards={"task": success.float()},
            columns={"modality": ["image" if flag else "text" for flag in self._image.tolist()]},
        )
