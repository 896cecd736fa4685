"""The rows of a step: as sampled, and as repaired."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.reference.trajectories import Trajectories


@dataclass(kw_only=True, slots=True)
class Batch:
    """All rows that a step knows: first those it sampled, then those it injected."""

    rows: Trajectories
    """The rows."""
    advantage: Tensor
    """(rows,) or (rows, turns) float32: what the loss multiplies."""
    replaced: Tensor
    """(rows,) bool: sampled, but not trained on."""
    injected: Tensor
    """(rows,) bool: from the reserve."""

    @property
    def trained(self) -> Tensor:
        """(rows,) bool: enters the updates."""
        return ~self.replaced

    @property
    def roles(self) -> list[str]:
        """Role of every row in the log."""
        flags = zip(self.replaced.tolist(), self.injected.tolist(), strict=True)
        return ["replaced" if out else "injected" if extra else "used" for out, extra in flags]


def padded(flags: Tensor, rows: int) -> Tensor:
    """(flags,) bool with False for the rows that follow: (rows,)."""
    return torch.cat([flags, torch.zeros(rows - len(flags), dtype=torch.bool)])
