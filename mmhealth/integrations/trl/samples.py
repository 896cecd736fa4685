"""What TRL sampled, and which of it the loss gets: the columns that are known before it is used.

Each call of TRL's own method numbers its rows in its batch (`ROW`), which is shuffled, split, and
by a subclass reordered, repeated or thinned out, along with everything else. So every row is
joined to its own reward, whatever becomes of the order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmhealth.integrations.trl.tokens import Array, host

ROW = "mmhealth_row"
"""Key in TRL's batches: (rows,) place of each trajectory in what was sampled for the step; once
the step has begun, in the rollout batch."""
OLD, REFERENCE = "mmhealth_old", "mmhealth_reference"
"""Keys of (rows, tokens) log probabilities when it was sampled, where TRL's batches lack them."""

UNJOINED = (
    "rewards, groups and columns of the dataset (and all of the updates of RLOO): not recorded, "
    "because {trainer} makes batches of its own, whose rows cannot be joined to those that TRL "
    "sampled; hand on whatever TRL's batch has, reordered as its advantages are"
)

_ROUNDING = 4 * float(np.finfo(np.float32).eps) / 1e-4
"""Of a reward: TRL takes the group's mean from it and divides by the group's deviation + 1e-4."""


@dataclass(frozen=True, slots=True)
class Success:
    """What tells that a trajectory succeeded."""

    column: str
    """Of a reward function, as `reward_columns` calls it."""
    least: float = 1.0
    """Its value from which on it did."""


@dataclass(slots=True)
class Sample:
    """One call of TRL's own method, on this rank."""

    inputs: Sequence[Mapping[str, Any]]
    """(trajectories,) rows of the dataset."""
    rewards: Tensor | None
    """(trajectories of all ranks, reward functions) as TRL gathers them; NaN where none is."""
    completions: Sequence[Any]
    tools: bool
    """Whether tools may have written some of the tokens."""


def numbered(output: dict[str, Any], earlier: Sequence[Sample]) -> None:
    """Number the rows of TRL's batch, after those of earlier calls for the same step."""
    mask = output["completion_mask"]
    first = sum(len(sample.inputs) for sample in earlier)
    output[ROW] = torch.arange(first, first + len(mask), device=mask.device)


def columns_of(
    trainer: Any,
    samples: Sequence[Sample],
    output: dict[str, Any],
    keep: Sequence[str],
    success: Success | None,
) -> tuple[dict[str, Any], bool]:
    """(trajectories,) columns of the rollout batch ``output``, whose rows are numbered anew.

    Rows that were sampled and are not in it follow, as ``filtered``. The flag says whether rows
    could be joined; where not, columns are those that the batch itself tells. ``keep`` names
    columns of the dataset.
    """
    mask = output["completion_mask"] * output.get("tool_mask", 1)
    counted = host(mask.sum(1))
    rows, numbers = len(counted), output.get(ROW)
    output[ROW] = torch.arange(rows, device=mask.device)
    given = np.zeros(0, np.int64) if numbers is None else host(numbers).astype(np.int64)
    total = sum(len(sample.inputs) for sample in samples)
    joined = len(given) == rows and bool(np.all((given >= 0) & (given < total)))
    order = np.concatenate([given, np.setdiff1d(np.arange(total), given)]) if joined else given[:0]
    counted = np.concatenate([counted, np.zeros(max(0, len(order) - rows))])
    columns: dict[str, Any] = {
        "role": ["used" if count else "filtered" for count in counted],
        "length": np.ma.masked_array(counted.astype(np.int64), counted == 0),
    }
    firsts = [sum(len(s.inputs) for s in samples[:call]) for call in range(len(samples))]
    parts = [_sampled(trainer, *each, keep) for each in zip(samples, firsts, strict=True)]
    for name in parts[0] if joined else ():
        if all(name in part for part in parts):
            columns[name] = _in_order([part[name] for part in parts], order)
    if success is not None and success.column in columns:
        columns["success"] = columns[success.column] >= success.least
    return columns, joined


def without_contrast(columns: Mapping[str, Any], advantages: Tensor, size: int) -> Array:
    """(trajectories,) whether all ``size`` of the group have one reward, and so no advantage.

    What TRL makes of it may be rounding over 1e-4: the mean of 8 rewards of 1.4 is not 1.4 in
    float32. The effective sample size asks only how alike advantages are, not how large.
    """
    rows = len(advantages)
    found = np.zeros(rows, bool)
    if "reward" not in columns:
        return found
    given, groups = host(advantages), np.asarray(columns["group_id"])[:rows]
    rewards = np.ma.filled(columns["reward"], np.nan)[:rows]
    for group in np.unique(groups):
        mine = groups == group
        same = float(np.ptp(rewards[mine])) == 0 and float(np.ptp(given[mine])) == 0
        small = np.abs(given[mine]).max() <= _ROUNDING * np.abs(rewards[mine]).max()
        found[mine] = mine.sum() == size and same and small
    return found


def _sampled(trainer: Any, sample: Sample, first: int, keep: Sequence[str]) -> dict[str, Any]:
    """(trajectories,) columns of one call; ``first`` rows on each rank are of earlier ones."""
    rows, rank = len(sample.inputs), trainer.accelerator.process_index
    ranks = trainer.accelerator.num_processes
    places = ranks * first + rank * rows + np.arange(rows)
    columns: dict[str, Any] = {"group_id": places // trainer.num_generations}
    if sample.rewards is not None:
        columns |= _rewards(trainer, host(sample.rewards[rank * rows : (rank + 1) * rows]))
    if sample.tools:
        columns |= _tools(sample.completions)
    for name in keep:
        columns[name] = [row.get(name) for row in sample.inputs]
    return columns


def reward_columns(names: Sequence[str]) -> list[str]:
    """A column for each reward function; the second of one name has ``_2`` behind it."""
    columns: list[str] = []
    for name in names:
        column, at = f"reward_{name}", 1
        while column in columns:
            at += 1
            column = f"reward_{name}_{at}"
        columns.append(column)
    return columns


def _rewards(trainer: Any, each: Array) -> dict[str, Any]:
    weights = host(trainer.reward_weights)
    missing = np.isnan(each)
    whole = np.nansum(each * weights, axis=1)
    columns = {"reward": np.ma.masked_array(whole, missing.all(axis=1))}
    for at, column in enumerate(reward_columns(trainer.reward_func_names)):
        columns[column] = np.ma.masked_array(each[:, at], missing[:, at])
    return columns


def _tools(completions: Sequence[Any]) -> dict[str, Any]:
    """Of conversations: calls, and turns of the policy."""
    if not all(isinstance(messages, list) for messages in completions):
        return {}
    own = [[m for m in messages if m.get("role") == "assistant"] for messages in completions]
    return {
        "tool_calls": [sum(len(m.get("tool_calls") or ()) for m in turns) for turns in own],
        "turns": [len(turns) for turns in own],
    }


def _in_order(parts: Sequence[Any], order: Array) -> Any:
    if isinstance(parts[0], list):
        values = [value for part in parts for value in part]
        return [values[at] for at in order]
    return np.ma.concatenate(parts)[order]  # type: ignore[no-untyped-call]
