"""The near-miss half of the ESS-adaptive fix: one-sided groups get their other side back.

Members of a one-sided group are swapped for near misses of the opposite side out of the run's own
past. The baseline of the group stays the mean reward of what the policy *sampled*: it estimates the
value of the present policy, which the injected episodes do not come from. So repairing a batch
leaves the advantage of every sampled row as it was, and the effective sample size of the sampled
rows is that of the batch before the repair.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmhealth.interventions import Item, NearMissReserve, Side, near_miss_side
from mmhealth.reference.majority_rule import MajorityRule
from mmhealth.reference.rollout import Episodes, concatenate


@dataclass(kw_only=True, slots=True)
class RepairConfig:
    """What counts as a near miss, and how many enter a group."""

    capacity: int = 8
    """Near misses kept per prompt and side."""
    below: int = 2
    """A failure by at most this many decisions is a near miss."""
    above: int = 1
    """A success by at most this many decisions to spare is a near miss."""
    swap: int = 6
    """Members of a one-sided group that are swapped for near misses; 0 turns the repair off."""
    solved_groups: bool = False
    """Also give failures to groups in which all succeed. It costs success: what is solved has no
    contrast to restore."""
    min_log_weight: float = -2.0
    """Lower clip of an injected episode's log importance ratio, in nats per decision."""
    max_log_weight: float = 1.0
    """Upper clip of it."""


def near_misses(episodes: Episodes, environment: MajorityRule, config: RepairConfig) -> Tensor:
    """(rows,) bool: nearly solved, or only just."""
    spare = episodes.score - environment.need[episodes.prompt]
    return (spare >= -config.below) & (spare <= config.above)


def remember(
    reserve: NearMissReserve, episodes: Episodes, environment: MajorityRule, config: RepairConfig
) -> None:
    """Put the near misses among ``episodes`` into the reserve, in row order."""
    near = episodes.rows(near_misses(episodes, environment, config))
    prompts = near.prompt.tolist()
    needs = environment.need[near.prompt].tolist()
    items = _pack(near)
    for prompt, need, score, item in zip(prompts, needs, near.score.tolist(), items, strict=True):
        side = near_miss_side(score, need, below=config.below, above=config.above)
        if side is not None:
            reserve.add(prompt, side, item)


def repair(
    episodes: Episodes, reserve: NearMissReserve, environment: MajorityRule, config: RepairConfig
) -> tuple[Tensor, Episodes | None]:
    """Rows to swap out, (rows,) bool, and as many near misses to take their place (None: no rows).

    A group of failures gets narrow successes. Where the reserve holds none it gets narrow failures,
    with the graded reward ``min(1, score / need)``. See `RepairConfig.solved_groups` for the mirror
    image.
    """
    swapped = torch.zeros(len(episodes), dtype=torch.bool)
    injected: list[Episodes] = []
    for prompt in range(environment.config.prompts):
        members = (episodes.prompt == prompt).nonzero().flatten()
        solved = episodes.success[members]
        failed_group = not bool(solved.any())
        if not failed_group and not (config.solved_groups and bool(solved.all())):
            continue
        sides: tuple[Side, Side] = (
            ("succeeded", "failed") if failed_group else ("failed", "succeeded")
        )
        for side in sides:
            items = reserve.take(prompt, side, min(config.swap, len(members)))
            if items:
                swapped[members[: len(items)]] = True
                near = _unpack(prompt, items)
                if side != sides[0]:
                    near.reward = (near.score / environment.need[near.prompt]).clamp(max=1.0)
                injected.append(near)
                break
    return swapped, concatenate(injected) if injected else None


_STORED: dict[str, type[np.generic]] = {
    "actions": np.int8,
    "log_prob": np.float32,
    "sampled_at": np.int32,
    "score": np.int8,
    "success": np.bool_,
    "entropy": np.float32,
}


def _pack(episodes: Episodes) -> list[dict[str, npt.NDArray[Any]]]:
    columns = {name: getattr(episodes, name).numpy().astype(kind) for name, kind in _STORED.items()}
    return [
        {name: np.asarray(column[row]) for name, column in columns.items()}
        for row in range(len(episodes))
    ]


def _unpack(prompt: int, items: list[Item]) -> Episodes:
    columns = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in _STORED}
    return Episodes(
        prompt=torch.full((len(items),), prompt),
        actions=columns["actions"].long(),
        log_prob=columns["log_prob"],
        sampled_at=columns["sampled_at"].long(),
        score=columns["score"].long(),
        success=columns["success"],
        reward=columns["success"].float(),
        entropy=columns["entropy"],
    )
