"""One rollout batch of this rank and everything done with it: a step of the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mmhealth.integrations.trl.tokens import Array, Found, Tokens, host, measure
from mmhealth.runlog import Recorder


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
    alike: Array | None = None
    """(trajectories,) whether their advantage is rounding, as `without_contrast` says."""
    uses: list[Use] = field(default_factory=list)
    followed: bool = False
    """Whether the next one has been sampled: TRL holds one at a time."""

    @property
    def finished(self) -> bool:
        """Whether every micro-batch has been used as often as it will be."""
        return self.followed or len(self.uses) >= self.uses_expected

    @property
    def unscored(self) -> int:
        """Tokens, of those in settled uses, without a log probability by the sampler."""
        return sum(use.found.unscored for use in self.uses if use.found is not None)

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
        rows = len(columns["role"])
        places = [host(use.rows).astype(np.int64) for use in self.uses]
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
            "advantage": np.concatenate([host(u.advantages) for u in self.uses]),
        }
        if self.alike is not None:
            updates["advantage"][self.alike[updates["trajectory_id"]]] = 0.0
        for name in found[0].updates:
            updates[name] = np.ma.concatenate([f.updates[name] for f in found])  # type: ignore[no-untyped-call]
        norms = [
            host(use.norms) if use.norms is not None else np.full(len(place), np.nan)
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
        if self.unscored:
            scalars["sampler_lacks"] = float(self.unscored)
        return scalars


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
