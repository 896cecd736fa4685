"""`backward_pass`: what every owned gradient needs around its computation.

Saved tensors are unpacked first: checkpointing repeats a forward pass there, which has to be seen.
Inside the computation no mode intercepts, no autocast rounds, and no graph is built: a second
derivative through an owned gradient is refused by torch.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradients = tuple[Tensor | None, ...]
Saved = tuple[Any, ...]
Compute = Callable[[Any, Saved, Tensor], Gradients]
"""From context, saved tensors and output gradient to the inputs' gradients."""


def backward_pass(compute: Compute) -> Callable[[Any, Tensor], Gradients]:
    """The ``backward`` of a `torch.autograd.Function` with one output."""

    @once_differentiable
    def refusing(ctx: Any, saved: Saved, gradient: Tensor) -> Gradients:
        return compute(ctx, saved, gradient)

    @wraps(compute)
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        saved = ctx.saved_tensors
        act = refusing if torch.is_grad_enabled() else compute
        kind = gradient.device.type
        with torch._C.DisableTorchFunction():
            if torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):
                    return act(ctx, saved, gradient)
            return act(ctx, saved, gradient)

    return backward
