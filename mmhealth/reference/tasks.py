"""What a step plays: every prompt, at horizons drawn (intervention V) or scheduled."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmhealth.interventions import MixedHorizons
from mmhealth.reference.config import TrainConfig
from mmhealth.reference.environment import Environment
from mmhealth.reference.ranks import Ranks


class Tasks:
    """Prompts and horizons of one step after another; ranks share the prompts.

    The trajectories of a group have one horizon: their baseline is to compare like with like.
    """

    def __init__(
        self, config: TrainConfig, environment: Environment, ranks: Ranks, seed: int
    ) -> None:
        self._config = config
        self._environment = environment
        self._ranks = ranks
        horizons = config.fixes.horizons
        self._mixed = MixedHorizons(horizons, seed=seed) if horizons else None

    @property
    def horizons(self) -> list[int]:
        """All horizons that a whole run is trained at, ascending."""
        if self._mixed is not None:
            return sorted(self._config.fixes.horizons)
        scheduled = {horizon for _, horizon in self._config.loop.horizon_schedule}
        return sorted(scheduled) or [self._environment.horizons[0]]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Prompt and horizon, (rows,) int64 each, of this rank's rows; call it once a step."""
        size, prompts = self._config.loop.group_size, self._environment.prompts
        share = slice(self._ranks.rank, None, self._ranks.size)
        prompt = torch.arange(prompts)[share].repeat_interleave(size)
        if self._mixed is None:
            return prompt, torch.full_like(prompt, self._scheduled(step))
        drawn = torch.as_tensor(self._mixed.sample(prompts))
        return prompt, drawn[share].repeat_interleave(size)

    def _scheduled(self, step: int) -> int:
        horizon = self._environment.horizons[0]
        for until, scheduled in self._config.loop.horizon_schedule:
            horizon = scheduled
            if step < until * self._config.steps:
                break
        return horizon

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"mixed": self._mixed.state_dict() if self._mixed else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if self._mixed is not None:
            self._mixed.load_state_dict(state["mixed"])
