"""The weight of a linear map, owned: its gradient is built from the trajectories' gradients.

For input x and output gradient g with the rows a:e of trajectory i, both flattened to rows,
``G = g[a:e]^T x[a:e]`` into one buffer, ``|G|^2`` to the account, and G to the sum, which *is* the
parameter's gradient: no product is taken twice, one buffer of the weight's size is added. Small
weights take one batched product for all trajectories. Rows of padding whose g is verified to be 0
are left out of all products.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.ledger import Summand
from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.use import Use

_TILE = 1 << 18
"""Elements of trajectories' gradients that one batched product makes."""
_FEW = 8
"""Trajectories from which on a batched product is faster than one after another."""


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
            g_bias = how.bias.hand_out(totals.sum(0))
        if how.weight is not None and ctx.needs_input_grad[1]:
            summed = own(how.weight, live, x.reshape(-1, x.shape[-1]), g, how.transposed)
            g_weight = how.weight.hand_out(summed)
        if ctx.needs_input_grad[0]:
            back = weight.t() if how.transposed else weight
            g_x = _input_gradient(g, back, live).view(x.shape)
        return g_x, g_weight, g_bias, None


def own(use: Use, live: Segments, x: Tensor, g: Tensor, transposed: bool = False) -> Tensor:
    """Charge trajectories with ``g^T x`` over their rows (``x^T g`` if transposed); the sum of all.

    x (rows, in) and g (rows, out). Computed in their dtype, added up in float32 at least.
    """
    left, right = (x, g) if transposed else (g, x)
    left, right = live.gathered(left), live.gathered(right.to(left.dtype))
    ledger, target = use.ledger, use.handle.target
    shape = left.shape[1], right.shape[1]
    wide = torch.promote_types(left.dtype, torch.float32)
    if ledger.defers(target):
        ledger.later(target, _summand(use, live, left, right, wide), live.members)
        whole = left if live.order is not None or live.dead is None else _alive(left, live)
        other = right if whole is left else _alive(right, live)
        return (whole.t() @ other).to(wide)
    at_once = _TILE // (shape[0] * shape[1])
    if (
        live.length is not None
        and at_once >= min(len(live.index), _FEW)
        and not ledger.tied(target)
    ):
        return _tiled(use, live, left, right, at_once)
    first = bool(live.bounds) and wide == left.dtype
    total = (torch.empty if first else torch.zeros)(shape, dtype=wide, device=left.device)
    buffer = torch.empty(shape, dtype=left.dtype, device=left.device)
    squares = []
    for at, (i, (a, b)) in enumerate(live.stretches(left, right)):
        into = total if at == 0 and first else buffer
        torch.mm(a.t(), b, out=into)
        squares.append(ledger.stream(use.handle, i, into))
        if into is buffer:
            total.add_(buffer)
    if squares:
        ledger.add(target, live.index, torch.stack(squares))
    return total


def _tiled(use: Use, live: Segments, left: Tensor, right: Tensor, at_once: int) -> Tensor:
    """The same in batched products of some trajectories each, all of one length."""
    count = len(live.index)
    wide = torch.promote_types(left.dtype, torch.float32)
    tiles = count, len(left) // max(count, 1), -1
    left, right = left.reshape(tiles).mT, right.reshape(tiles)
    at_once = min(at_once, count)
    shape = at_once, left.shape[1], right.shape[2]
    buffer = use.ledger.scratch(shape, left)
    total, norms = None, []
    for a in range(0, count, at_once):
        b = min(a + at_once, count)
        tile = torch.bmm(left[a:b], right[a:b], out=buffer[: b - a]).to(wide)
        norms.append(use.ledger.norms(use.handle, live, tile, first=a))
        part = tile.sum(0)
        total = part if total is None else total.add_(part)
    assert total is not None
    use.ledger.add_norms(use.handle.target, live, norms[0] if len(norms) == 1 else torch.cat(norms))
    return total


def _summand(use: Use, live: Segments, left: Tensor, right: Tensor, wide: torch.dtype) -> Summand:
    at = {i: (a, b) for i, a, b in live.bounds}

    def gradient(trajectory: int) -> Tensor | None:
        if trajectory not in at:
            return None
        a, b = at[trajectory]
        return use.handle.back((left[a:b].t() @ right[a:b]).to(wide))

    return gradient


def _alive(rows: Tensor, live: Segments) -> Tensor:
    return torch.cat([part for _, (part,) in live.stretches(rows)])


def _input_gradient(g: Tensor, weight: Tensor, live: Segments) -> Tensor:
    """``g W``, without the rows that are known to be 0."""
    if live.dead is None or live.order is not None:
        return g @ weight
    result = g.new_zeros(len(g), weight.shape[1])
    for _, a, b in live.bounds:
        torch.mm(g[a:b], weight, out=result[a:b])
    return result
