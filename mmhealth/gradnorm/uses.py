"""`Uses`: what is known of the uses of one target in one part of a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmhealth.gradnorm.rows import RowSums

Summand = Callable[[int], Tensor | None]
"""Gradient of trajectory i in one use, in the shape of the target; None where it has none."""


@dataclass(slots=True)
class Uses:
    """Uses of one target in one part."""

    outside: int = 0
    """Dense uses in a forward pass."""
    inside: int = 0
    """Dense uses recomputed in a backward pass (checkpointing)."""
    streamed: bool = False
    members: set[int] = field(default_factory=set)
    summands: list[Summand] = field(default_factory=list)
    rows: RowSums = field(default_factory=RowSums)

    def gradients(self) -> Iterator[tuple[int, Tensor]]:
        """Whole gradients of the trajectories whose summands waited, computed as they come."""
        for i in sorted(self.members):
            present = [g for g in (summand(i) for summand in self.summands) if g is not None]
            yield i, present[0] if len(present) == 1 else torch.stack(present).sum(0)
