"""Advantages: rewards against what the policy was expected to get."""

import torch
from torch import Tensor

from mmhealth.interventions import advantages_within_horizon
from mmhealth.reference.config import AdvantageKind
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.trajectories import Trajectories


def reference_key(kind: AdvantageKind, episodes: Episodes) -> Tensor:
    """(rows,) int64: rows with the same key are compared with each other."""
    if kind in ("group", "group_std"):
        return episodes.prompt
    if kind == "horizon":
        return episodes.horizon
    return torch.zeros_like(episodes.prompt)


def within_horizon(reward: Tensor, horizon: Tensor) -> Tensor:
    """(rows,) advantages of sampled rows, standardised among those of the same horizon."""
    values = advantages_within_horizon(reward.double().numpy(), horizon.numpy())
    return torch.as_tensor(values, dtype=torch.float32)


def advantages(
    kind: AdvantageKind,
    rows: Trajectories,
    reward: Tensor,
    key: Tensor,
    baseline: Tensor | None = None,
) -> Tensor:
    """(rows,) advantage of ``rows`` against sampled rewards and keys, both (sampled rows,).

    Injected rows are compared with what the policy *sampled* too: they do not come from it, so they
    say nothing about its value, and repairing a batch leaves every sampled advantage as it was.
    ``baseline`` (rows,) replaces the mean.
    """
    own = reference_key(kind, rows.episodes)
    known, place = torch.unique(torch.cat([key, own]), return_inverse=True)
    sampled, mine = place[: len(key)], place[len(key) :]
    count = torch.bincount(sampled, minlength=len(known)).clamp(min=1)
    mean = torch.zeros(len(known)).index_add_(0, sampled, reward) / count
    centred = rows.reward - (mean[mine] if baseline is None else baseline)
    if kind == "group":
        return centred
    squares = torch.zeros(len(known)).index_add_(0, sampled, (reward - mean[sampled]).square())
    spread = (squares / count).sqrt()[mine]
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0.0)


def to_go(reward: Tensor, played: Tensor) -> Tensor:
    """(rows, turns) reward-to-go minus the mean of the turn, over the root mean square of all.

    ``played`` (rows, turns) bool: the turn took place.
    """
    future = reward.flip(1).cumsum(1).flip(1) * played
    mean = future.sum(0) / played.sum(0).clamp(min=1)
    centred = (future - mean) * played
    scale = (centred.square().sum() / played.sum().clamp(min=1)).sqrt()
    return centred / scale.clamp(min=1e-6)
