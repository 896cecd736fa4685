"""Episodes together with what they were worth: the rows of a step's tables."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mmhealth.reference import episodes as episode_rows
from mmhealth.reference.environment import Outcome
from mmhealth.reference.episodes import Episodes

LABELS = ("source", "capability", "modality")


@dataclass(kw_only=True, slots=True)
class Trajectories:
    """Rows of a batch; tensors are (rows,)."""

    episodes: Episodes
    """What happened."""
    reward: Tensor
    """Total reward as it was composed in the step that sampled it (float32)."""
    success: Tensor
    """The task was solved (bool)."""
    score: Tensor
    """How much of it was right; NaN where the environment does not say (float32)."""
    need: Tensor
    """Score that was needed; NaN likewise."""
    labels: dict[str, list[str]]
    """``source``, ``capability`` and ``modality``, as far as the environment has them."""

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, chosen: Tensor) -> "Trajectories":
        """The chosen rows: bool (rows,) or indices."""
        at = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen
        return Trajectories(
            episodes=self.episodes.rows(at),
            reward=self.reward[at],
            success=self.success[at],
            score=self.score[at],
            need=self.need[at],
            labels={name: [values[i] for i in at.tolist()] for name, values in self.labels.items()},
        )


def judged(episodes: Episodes, outcome: Outcome, reward: Tensor) -> Trajectories:
    """Episodes with their outcome."""
    unknown = torch.full((len(episodes),), torch.nan)
    labels = {name: list(outcome.columns[name]) for name in LABELS if name in outcome.columns}
    return Trajectories(
        episodes=episodes,
        reward=reward if reward.ndim == 1 else reward.sum(1),
        success=outcome.success,
        score=unknown if outcome.score is None else outcome.score.float(),
        need=unknown if outcome.need is None else outcome.need.float(),
        labels=labels,
    )


def concatenate(parts: Sequence[Trajectories]) -> Trajectories:
    """The rows of all parts, in order."""
    names = [f.name for f in fields(Trajectories) if f.name not in ("episodes", "labels")]
    return Trajectories(
        episodes=episode_rows.concatenate([part.episodes for part in parts]),
        labels={
            name: [label for part in parts for label in part.labels[name]]
            for name in parts[0].labels
        },
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
    )
