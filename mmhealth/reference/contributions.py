"""What advantages are multiplied by: where intervention III and the unified layer act."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmhealth.interventions import (
    AdaptiveNormalisation,
    BucketNormalizer,
    Normalised,
    VarianceCorrection,
)
from mmhealth.reference.config import Fixes
from mmhealth.reference.ranks import Ranks
from mmhealth.reference.trajectories import Trajectories

Columns = dict[str, npt.NDArray[Any]]


class Contributions:
    """Normalises advantages; what it learns, it learns from the sampled rows of all ranks."""

    def __init__(self, fixes: Fixes, ranks: Ranks) -> None:
        self._ranks = ranks
        self._bucket = fixes.bucket
        self._variance = VarianceCorrection(fixes.variance) if fixes.variance else None
        self._buckets = BucketNormalizer() if fixes.bucket else None
        self._unified = AdaptiveNormalisation(fixes.unified) if fixes.unified else None
        self.verdict: Normalised | None = None
        """What the unified layer says of the step; None without it."""

    def normalise(self, rows: Trajectories, advantage: Tensor, log_weight: Tensor) -> Tensor:
        """(rows,) what the loss multiplies, of sampled rows; call it once a step.

        ``log_weight`` (rows,): raw log importance weights under the policy that learns.
        """
        if not self._parts():
            return advantage
        whole, mine = self._gathered(
            _columns(rows, advantage, self._bucket) | {"log_weight": log_weight.double().numpy()}
        )
        values = whole["advantage"]
        if self._variance is not None:
            values = self._variance.normalise(values, whole["source"], whole["length"])
        if self._buckets is not None:
            values = self._buckets.normalise(values, whole["bucket"])
        if self._unified is not None:
            self.verdict = self._unified.normalise(
                values, whole["source"], whole["length"], whole["log_weight"]
            )
            values = self.verdict.advantage
        return torch.as_tensor(values[mine], dtype=torch.float32)

    def apply(self, rows: Trajectories, advantage: Tensor) -> Tensor:
        """The same scale for rows from a reserve; nothing is learnt from them."""
        columns = _columns(rows, advantage, None)
        values = columns["advantage"]
        nothing = np.zeros(len(rows), np.bool_)
        corrections = [self._variance, self._unified.variance if self._unified else None]
        for part in filter(None, corrections):
            values = part.normalise(values, columns["source"], columns["length"], observed=nothing)
        return torch.as_tensor(values, dtype=torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _gathered(self, columns: Columns) -> tuple[Columns, slice]:
        parts = self._ranks.gather(columns)
        whole = {name: np.concatenate([part[name] for part in parts]) for name in columns}
        start = sum(len(part["advantage"]) for part in parts[: self._ranks.rank])
        return whole, slice(start, start + len(columns["advantage"]))

    def _parts(self) -> dict[str, Any]:
        parts = {"variance": self._variance, "buckets": self._buckets, "unified": self._unified}
        return {name: part for name, part in parts.items() if part is not None}


def _columns(rows: Trajectories, advantage: Tensor, bucket: str | None) -> Columns:
    return {
        "advantage": advantage.double().numpy(),
        "length": rows.episodes.length.numpy(),
        "source": np.asarray(rows.labels.get("source", ["all"] * len(rows))),
        "bucket": np.asarray(rows.labels[bucket] if bucket else [""] * len(rows)),
    }
