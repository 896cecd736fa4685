"""What a method is measured on: a model, a batch, and each trajectory's term in the loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmhealth.gradnorm import Layout

Call = Callable[..., Any]
"""The model as a function."""
Args = tuple[Tensor, ...]


@dataclass(frozen=True)
class Bars:
    """What was promised: ratios to plain training; None is stated, not judged."""

    time: float | None = None
    flops: float | None = None
    memory: float | None = None
    stretch: float | None = None
    extra_ms: float = 0.0
    """Time passes, too, below this many milliseconds an update beyond plain."""


@dataclass
class Part:
    """One forward and backward pass."""

    args: Args
    """Arguments of `Workload.terms` after the call; axis 0 is the row."""
    members: Tensor
    """(trajectories,) numbers of those in it, row by row where rows are trajectories."""


@dataclass
class Workload:
    """A model, a batch of ``count`` trajectories, and what they add to the loss."""

    name: str
    about: str
    model: nn.Module
    parts: list[Part]
    terms: Callable[..., Tensor]
    """(call, *args): (rows,) terms of the loss, which is their sum; (1,) where rows are packed."""
    alone: Callable[[int], Args]
    """Arguments for one trajectory by itself, trimmed to its length."""
    layouts: dict[str, Callable[[], list[Layout]]]
    """What mmhealth is told of the parts, by what the table calls it; "" is the plain way."""
    bars: dict[str, Bars] = field(default_factory=dict)
    """By layout, and of the sketch under "sketch"."""
    packed: bool = False
    effort: float = 1.0
    """Share of the pairs that it gets: slow ones fewer."""

    @property
    def count(self) -> int:
        """Trajectories."""
        return sum(len(part.members) for part in self.parts)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    def loss(self, call: Call, args: Args) -> Tensor:
        """Scalar; in bfloat16 autocast on a GPU."""
        device = self.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return self.terms(call, *args).sum()

    def bytes_held(self) -> int:
        """Of parameters and batch: what is in memory before the forward pass."""
        tensors = [*self.model.parameters(), *(a for part in self.parts for a in part.args)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: str) -> "Workload":
        """Moved, in place."""
        self.model.to(device)
        for part in self.parts:
            part.args = tuple(a.to(device) for a in part.args)
        alone = self.alone
        self.alone = lambda i: tuple(a.to(device) for a in alone(i))
        return self
