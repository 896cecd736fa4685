"""Columns of the trajectories table: what the log says of a batch."""

from typing import Any

import torch
from torch import Tensor

from mmhealth.reference.batch import Batch, padded
from mmhealth.reference.config import RepairConfig
from mmhealth.reference.environment import Outcome
from mmhealth.reference.repair import near_misses
from mmhealth.reference.trajectories import LABELS

Columns = dict[str, Any]
"""Column name to values, one a row."""


def describe(batch: Batch, outcome: Outcome, repair: RepairConfig, updates_done: int) -> Columns:
    """All sampled rows, then the injected ones; what is not known of a row is null."""
    rows, episodes = batch.rows, batch.rows.episodes
    count, length = len(rows), episodes.length
    columns: Columns = {
        "trajectory_id": torch.arange(count),
        "role": batch.roles,
        "group_id": episodes.prompt,
        "behavior_lag": updates_done - episodes.sampled_at,
        "reward": rows.reward,
        "success": rows.success,
        "entropy": episodes.entropy,
        "length": length,
        "token_count": length,
        "turns": 1 + episodes.turn.masked_fill(~episodes.valid, 0).amax(1),
        "horizon": episodes.horizon,
    }
    if not bool(rows.score.isnan().all()):
        columns["score"] = rows.score
        columns["near_miss"] = near_misses(rows, repair)
    if bool(episodes.strategic.any()):
        columns["strategic_entropy"] = episodes.strategic_entropy
    columns |= rows.labels
    for name, values in outcome.rewards.items():
        if len(outcome.rewards) > 1:
            columns[f"reward_{name}"] = _pending_null(name, values, outcome, count)
    if outcome.distances:
        columns |= _constraints(outcome, count)
    for name, values in outcome.columns.items():
        if name not in LABELS:
            columns[name] = _extended(values, count)
    return columns


def _pending_null(name: str, values: Tensor, outcome: Outcome, count: int) -> list[float | None]:
    total = values if values.ndim == 1 else values.sum(1)
    delay = outcome.delay.get(name)
    known = torch.ones(len(total), dtype=torch.bool) if delay is None else delay <= 0
    pairs = zip(total.tolist(), padded(known, count).tolist(), strict=False)
    seen = [value if flag else None for value, flag in pairs]
    return seen + [None] * (count - len(seen))


def _constraints(outcome: Outcome, count: int) -> Columns:
    worst = torch.stack(list(outcome.distances.values())).nan_to_num(-torch.inf).amax((0, 2))
    margin = [value if value > -torch.inf else None for value in worst.tolist()]
    return {
        "constraint_margin": _extended(margin, count),
        "violated": _extended(worst > 0, count),
    }


def _extended(values: Any, count: int) -> Any:
    missing = count - len(values)
    if not missing:
        return values
    listed = values.tolist() if isinstance(values, Tensor) else list(values)
    return listed + [None] * missing
