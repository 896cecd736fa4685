"""One rollout batch of this rank and everything done with it: a step of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmhealth.integrations.trl.tokens import Array, Found, Tokens, measure
from mmhealth.runlog import Recorder

ROW = "mmhealth_row"
"""Key in TRL's batches: (rows,) place of each trajectory in the rollout batch. TRL shuffles and
splits it along with everything else."""


@dataclass(slots=True)
class Use:
    """One micro-batch."""

    update: int
    """Optimizer steps since the rollout."""
    rows: Tensor
    """(rows,) places in the rollout batch."""
    advantages: Tensor
    tokens: Tokens | None
    """None once they are `found`."""
    rate: float
    """Learning rate of the optimizer step that it is part of."""
    norms: Tensor | None = None
    loss: Tensor | None = None
    """Share of the optimizer step's loss."""
    found: Found | None = None


@dataclass(slots=True)
class Rollout:
    """A rollout batch of this rank."""

    step: int
    born: int
    """Optimizer steps before it was sampled."""
    columns: dict[str, Any]
    """(trajectories,) what is known when it has been sampled."""
    uses_expected: int
    old: Tensor | None = None
    """(trajectories, tokens) log probabilities when it was sampled, where batches lack them."""
    reference: Tensor | None = None
    uses: list[Use] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether every micro-batch has been used as often as it will be."""
        return len(self.uses) >= self.uses_expected

    def settle(self) -> None:
        """Turn the tokens of an optimizer step that is done into numbers, and let go of them."""
        for use in self.uses:
            if use.tokens is not None:
                use.found, use.tokens = measure(use.tokens), None

    def commit(self, recorder: Recorder) -> None:
        """Write the step."""
        self.settle()
        found = [use.found for use in self.uses if use.found is not None]
        columns = dict(self.columns)
        rows = len(columns["group_id"])
        places = [_host(use.rows).astype(np.int64) for use in self.uses]
        for name, values in _described(rows, places, found).items():
            columns[name] = values
        columns["behavior_lag"] = self._lags(rows, places)
        with recorder.step(self.step) as record:
            record.add(columns)
            if self.uses:
                record.update(self._updates(places, found))
            record.scalars(self._scalars())
            after = [f.after_tool for f in found if f.after_tool is not None]
            record.log_ratios(
                np.concatenate([f.ratios for f in found] or [np.zeros(0)]),
                after_tool=np.concatenate(after) if after and len(after) == len(found) else None,
            )

    def _updates(self, places: Sequence[Array], found: Sequence[Found]) -> dict[str, Any]:
        updates = {
            "trajectory_id": np.concatenate(places),
            "update": np.repeat([u.update for u in self.uses], [len(p) for p in places]),
            "advantage": np.concatenate([_host(u.advantages) for u in self.uses]),
        }
        for name in found[0].updates:
            updates[name] = np.concatenate([f.updates[name] for f in found])
        norms = [
            _host(use.norms) if use.norms is not None else np.full(len(place), np.nan)
            for use, place in zip(self.uses, places, strict=True)
        ]
        lacks = np.repeat([use.norms is None for use in self.uses], [len(p) for p in places])
        if not lacks.all():
            updates["grad_norm"] = np.ma.masked_array(np.concatenate(norms), lacks)
        entered = np.concatenate([f.trajectories["token_count"] for f in found]) > 0
        return {name: values[entered] for name, values in updates.items()}

    def _lags(self, rows: int, places: Sequence[Array]) -> Any:
        lags = np.ma.masked_array(np.zeros(rows, np.int64), mask=True)
        for use, place in reversed(list(zip(self.uses, places, strict=True))):
            lags[place] = use.update
        return lags

    def _scalars(self) -> dict[str, float]:
        losses: dict[int, float] = {}
        for use in self.uses:
            if use.loss is not None:
                losses[use.update] = losses.get(use.update, 0.0) + float(use.loss)
        scalars = {"loss": sum(losses.values()) / len(losses)} if losses else {}
        if self.uses:
            scalars["lr"] = self.uses[-1].rate
        return scalars


def sampled(
    trainer: Any,
    *,
    inputs: Sequence[Mapping[str, Any]],
    output: Mapping[str, Any],
    rewards: Tensor | None,
    completions: Sequence[Any],
    keep: Sequence[str],
) -> dict[str, Any]:
    """(trajectories,) columns of what was sampled.

    ``rewards`` (trajectories of all ranks, reward functions) as TRL gathers them, NaN where a
    function gave none; ``keep`` names columns of the dataset.
    """
    rank, rows = trainer.accelerator.process_index, len(inputs)
    mask = output["completion_mask"] * output.get("tool_mask", 1)
    counted = _host(mask.sum(1))
    columns: dict[str, Any] = {
        "group_id": (rank * rows + np.arange(rows)) // trainer.num_generations,
        "role": ["used" if count else "filtered" for count in counted],
        "length": np.ma.masked_array(counted.astype(np.int64), counted == 0),
    }
    if rewards is not None:
        columns |= _rewards(trainer, _host(rewards[rank * rows : (rank + 1) * rows]))
    if "tool_mask" in output:
        columns |= _tools(completions)
    for name in keep:
        columns[name] = [row.get(name) for row in inputs]
    return columns


def _rewards(trainer: Any, each: Array) -> dict[str, Any]:
    weights = _host(trainer.reward_weights)
    missing = np.isnan(each)
    whole = np.nansum(each * weights, axis=1)
    columns = {"reward": np.ma.masked_array(whole, missing.all(axis=1))}
    for at, name in enumerate(trainer.reward_func_names):
        columns[f"reward_{name}"] = np.ma.masked_array(each[:, at], missing[:, at])
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


def _described(
    rows: int, places: Sequence[Array], found: Sequence[Found]
) -> dict[str, np.ma.MaskedArray[Any, Any]]:
    """Per trajectory, as its first use found it; masked where it had none."""
    columns: dict[str, np.ma.MaskedArray[Any, Any]] = {}
    for place, part in reversed(list(zip(places, found, strict=True))):
        for name, values in part.trajectories.items():
            unknown = np.ma.masked_array(np.zeros(rows, values.dtype), mask=True)
            column = columns.setdefault(name, unknown)
            column[place] = values
            if name != "token_count":
                column[place[part.trajectories["token_count"] == 0]] = np.ma.masked
    return columns


def _host(tensor: Tensor) -> Array:
    tensor = tensor.detach().to("cpu")
    return tensor.double().numpy() if tensor.dtype != torch.float64 else tensor.numpy()
