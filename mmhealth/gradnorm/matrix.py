"""A linear map with weight and bias owned: ``x W^T + b``. Rows of padding whose output gradient is
verified to be 0 are left out of all products of the backward pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.summands import own
from mmhealth.gradnorm.use import Use


@dataclass(eq=False, slots=True)
class Matrix:
    """How one call multiplies: ``x W^T + b``, or ``x W + b`` if ``transposed``."""

    weight: Use | None
    bias: Use | None
    transposed: bool = False
    dtype: torch.dtype | None = None
    """Of the products, under autocast."""


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, how: Matrix) -> Tensor:
    """(..., in) to (..., out), with the weight's and the bias's gradients owned."""
    product: Tensor = _Product.apply(x, weight, bias, how)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Matrix) -> Tensor:
        if how.dtype is not None:
            x, weight = x.to(how.dtype), weight.to(how.dtype)
            bias = None if bias is None else bias.to(how.dtype)
        ctx.save_for_backward(x, weight)
        ctx.how = how
        if not how.transposed:
            return torch.nn.functional.linear(x, weight, bias)
        flat = x.reshape(-1, x.shape[-1])
        product = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
        return product.view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    @backward_pass
    def backward(ctx: Any, saved: Saved, gradient: Tensor) -> Gradients:
        x, weight = saved
        how: Matrix = ctx.how
        g = gradient.reshape(-1, gradient.shape[-1])
        use = how.weight or how.bias
        assert use is not None
        live = use.live(g)
        g_weight = g_bias = g_x = None
        if how.bias is not None and ctx.needs_input_grad[2]:
            totals = live.sums(g)
            how.bias.charge(live, totals)
            g_bias = how.bias.hand_out(g.sum(0) if use.ledger.bitwise else totals.sum(0))
        if how.weight is not None and ctx.needs_input_grad[1]:
            summed = own(how.weight, live, x.reshape(-1, x.shape[-1]), g, how.transposed)
            g_weight = how.weight.hand_out(summed)
        if ctx.needs_input_grad[0]:
            back = weight.t() if how.transposed else weight
            skips = live.dead is not None and live.order is None and not use.ledger.bitwise
            g_x = (_alive_product(g, back, live) if skips else g @ back).view(x.shape)
        return g_x, g_weight, g_bias, None


def _alive_product(g: Tensor, weight: Tensor, live: Segments) -> Tensor:
    """``g W``, without the rows that are known to be 0."""
    result = g.new_zeros(len(g), weight.shape[1])
    for _, a, b in live.bounds:
        torch.mm(g[a:b], weight, out=result[a:b])
    return result
