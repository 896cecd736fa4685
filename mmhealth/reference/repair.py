"""The reserve half of the ESS-adaptive fix: one-sided groups get their other side back.

Members of a one-sided group are swapped for near misses of the opposite side out of the run's own
past. Which groups, how many and with what weight is decided here; keeping them is the work of
`mmhealth.interventions.NearMissReserve`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmhealth.interventions import Item, NearMissReserve, Side, near_miss_side
from mmhealth.reference.config import RepairConfig
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.trajectories import Trajectories, concatenate


def near_misses(rows: Trajectories, config: RepairConfig) -> Tensor:
    """(rows,) bool: nearly solved, or only just; False where there is no score."""
    spare = rows.score - rows.need
    return (spare >= -config.below) & (spare <= config.above)


def remember(
    reserve: NearMissReserve, rows: Trajectories, sampled: Tensor, config: RepairConfig
) -> None:
    """Put what is worth keeping into the reserve, in row order; ``sampled`` is (rows,) bool."""
    if config.kind == "near_miss":
        worth = near_misses(rows, config)
    else:
        worth = rows.score <= rows.need - (rows.need - 2).clamp(min=2)
    kept = rows.rows(worth & sampled)
    scores = zip(kept.score.tolist(), kept.need.tolist(), strict=True)
    sides: list[Side | None] = ["failed"] * len(kept)
    if config.kind == "near_miss":
        sides = [near_miss_side(*pair, below=config.below, above=config.above) for pair in scores]
    queues: dict[tuple[int, Side], list[int]] = {}
    for row, (prompt, side) in enumerate(zip(kept.episodes.prompt.tolist(), sides, strict=True)):
        if side is not None:
            queues.setdefault((prompt, side), []).append(row)
    pack = _packer(kept)
    for (prompt, side), members in queues.items():
        for row in members[-reserve.capacity :]:
            reserve.add(prompt, side, pack(row))


def repair(
    rows: Trajectories, reserve: NearMissReserve, config: RepairConfig
) -> tuple[Tensor, Trajectories | None]:
    """Rows to swap out, (rows,) bool, and as many others to take their place (None: no rows).

    A group of failures gets narrow successes. Where the reserve holds none it gets narrow failures,
    with the graded reward ``min(1, score / need)``; so do hard negatives.
    See `RepairConfig.solved_groups` for the mirror image.
    """
    swapped = torch.zeros(len(rows), dtype=torch.bool)
    injected: list[Trajectories] = []
    for prompt in sorted(set(rows.episodes.prompt.tolist())):
        members = (rows.episodes.prompt == prompt).nonzero().flatten()
        solved = rows.success[members]
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
                kept = concatenate([_unpack(prompt, item, rows.labels) for item in items])
                if side != sides[0]:
                    kept.reward = (kept.score / kept.need).clamp(max=1.0)
                injected.append(kept)
                break
    return swapped, concatenate(injected) if injected else None


_WIDE = ("observations", "allowed", "valid", "strategic", "turn", "actions")
_NARROW = ("horizon", "log_prob", "entropy", "strategic_entropy", "sampled_at")
_JUDGED = ("reward", "success", "score", "need")
_SMALL: dict[str, type[np.generic]] = {"actions": np.int8, "turn": np.int16}


def _packer(rows: Trajectories) -> Callable[[int], dict[str, npt.NDArray[Any]]]:
    """A function from a row to its item, without the decisions that are not valid."""
    episodes = rows.episodes
    places = 1 + torch.arange(episodes.valid.shape[1])
    ends = (episodes.valid * places).amax(1).tolist() if len(rows) else []
    columns = {name: getattr(episodes, name) for name in (*_WIDE, *_NARROW)}
    columns |= {name: getattr(rows, name) for name in _JUDGED}
    arrays = {
        name: values.numpy().astype(_SMALL.get(name, values.numpy().dtype), copy=False)
        for name, values in columns.items()
        if values is not None
    }

    def pack(row: int) -> dict[str, npt.NDArray[Any]]:
        item = {
            name: array[row, : ends[row]] if name in _WIDE else np.asarray(array[row])
            for name, array in arrays.items()
        }
        for name, labels in rows.labels.items():
            item[f"label_{name}"] = np.frombuffer(labels[row].encode(), np.uint8)
        return item

    return pack


def _unpack(prompt: int, item: Item, labels: dict[str, list[str]]) -> Trajectories:
    def tensor(name: str) -> Tensor:
        values = torch.from_numpy(np.array(item[name])).unsqueeze(0)
        return values.long() if name in _SMALL else values

    episode = Episodes(
        prompt=torch.tensor([prompt]),
        allowed=tensor("allowed") if "allowed" in item else None,
        **{name: tensor(name) for name in (*_WIDE, *_NARROW) if name != "allowed"},
    )
    return Trajectories(
        episodes=episode,
        labels={name: [bytes(item[f"label_{name}"]).decode()] for name in labels},
        **{name: tensor(name) for name in _JUDGED},
    )
