"""What is measured: trainable parameters, slices of them, and tensors that stand for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """A trainable parameter, or one entry of it along axis 0 (an expert of a stack)."""

    name: str
    parameter: Tensor
    parent: str
    row: int | None = None

    @cached_property
    def handle(self) -> "Handle":
        """The handle of the parameter itself."""
        return Handle(self)

    @property
    def shape(self) -> torch.Size:
        """Shape of its gradient."""
        return self.parameter.shape if self.row is None else self.parameter.shape[1:]


def _same(gradient: Tensor) -> Tensor:
    return gradient


@dataclass(frozen=True, eq=False)
class Handle:
    """A tensor computed from one target alone by steps that keep every norm: a cast, a transpose.

    ``back`` maps a gradient with respect to the tensor to one with respect to the target.
    """

    target: Target
    back: Callable[[Tensor], Tensor] = _same
    whole: bool = True
    """Whether the tensor is the parameter itself."""

    @property
    def turns(self) -> bool:
        """Whether the tensor differs from its target."""
        return self.back is not _same

    def then(self, back: Callable[[Tensor], Tensor]) -> "Handle":
        """The handle after one more step, given the way back through it."""
        first = self.back
        return Handle(self.target, lambda gradient: first(back(gradient)), False)
