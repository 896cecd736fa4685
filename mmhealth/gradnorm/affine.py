"""Parameters that meet activations element by element, owned: gains, shifts, LayerNorm.

A parameter that broadcasts against an activation is replaced by a copy for every element of the
result, without memory. Autograd then delivers the gradient of each copy, and their sums over a
trajectory's rows are its gradient: what autograd would have summed anyway. This covers the RMSNorm
of any library, layer scales, learned position tables added to the input, biases added by hand.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.use import Use


def spread(parameter: Tensor, shape: torch.Size, leading: int, use: Use) -> Tensor:
    """The parameter expanded to ``shape``; its first ``leading`` axes are the layout's tokens."""
    copies: Tensor = _Spread.apply(parameter, shape, leading, use)  # type: ignore[no-untyped-call]
    return copies


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, shape: torch.Size, leading: int, use: Use) -> Tensor:
        ctx.shape, ctx.leading, ctx.use = parameter.shape, leading, use
        return parameter.expand(shape)

    @staticmethod
    @backward_pass
    def backward(ctx: Any, _saved: Saved, gradient: Tensor) -> Gradients:
        use: Use = ctx.use
        rest = gradient.shape[ctx.leading :]
        rows = gradient.reshape(-1, *rest)

        def back(totals: Tensor) -> Tensor:
            return _reduced(totals, ctx.shape)

        whole = use.sums(rows, back)
        if use.ledger.bitwise:
            whole = gradient.sum_to_size(ctx.shape)
        return use.hand_out(whole), None, None, None


def _reduced(totals: Tensor, shape: torch.Size) -> Tensor:
    """(members, ...) summed over the axes that were broadcast: (members, *shape)."""
    own = [1] * (totals.ndim - 1 - len(shape)) + list(shape)[max(0, len(shape) - totals.ndim + 1) :]
    axes = [k + 1 for k, size in enumerate(own) if size == 1 and totals.shape[k + 1] != 1]
    if axes:
        totals = totals.sum(axes, keepdim=True)
    return totals.reshape(len(totals), *shape)


@dataclass(frozen=True, eq=False)
class Norm:
    """How one call of LayerNorm normalises."""

    shape: list[int]
    eps: float
    weight: Use | None
    bias: Use | None


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, how: Norm) -> Tensor:
    """(..., *shape) normalised over ``shape``, with gain's and shift's gradients owned."""
    result: Tensor = _LayerNorm.apply(x, weight, bias, how)  # type: ignore[no-untyped-call]
    return result


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, how: Norm
    ) -> Tensor:
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            x = x.float()
        result, mean, rstd = torch.native_layer_norm(x, how.shape, weight, bias, how.eps)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        ctx.how = how
        return result

    @staticmethod
    @backward_pass
    def backward(ctx: Any, saved: Saved, gradient: Tensor) -> Gradients:
        """The native kernel on the rows of each trajectory."""
        x, mean, rstd, weight, bias = saved
        how: Norm = ctx.how
        use = how.weight or how.bias
        assert use is not None
        g = gradient.reshape(-1, *how.shape)
        live = use.live(g)
        rows = [g, x.reshape(g.shape), mean.reshape(len(g), 1), rstd.reshape(len(g), 1)]
        whole = _kernel(rows, how, weight, bias) if use.ledger.bitwise else (None, None, None)
        rows = [live.gathered(t) for t in rows]
        skips = live.dead is not None and live.order is None
        g_x = (g.new_zeros if skips else g.new_empty)(rows[0].shape)
        gains, shifts = [], []
        for _, a, b in live.bounds:
            g_x[a:b], gain, shift = _kernel([t[a:b] for t in rows], how, weight, bias)
            gains.append(gain)
            shifts.append(shift)
        if live.order is not None:
            g_x = g_x.new_zeros(g.shape).index_copy_(0, live.order, g_x)
        g_x = g_x if whole[0] is None else whole[0]
        g_weight = _charged(how.weight, live, gains, weight, whole[1])
        g_bias = _charged(how.bias, live, shifts, bias, whole[2])
        return g_x.view(x.shape), g_weight, g_bias, None


def _kernel(
    rows: list[Tensor], how: Norm, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, gain and shift; rows are output gradient, input, mean, 1 / deviation."""
    g, x, mean, rstd = rows
    wanted = [True, how.weight is not None, how.bias is not None]
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        g, x, how.shape, mean, rstd, weight, bias, wanted
    )
    return result


def _charged(
    use: Use | None,
    live: Segments,
    gradients: list[Tensor],
    parameter: Tensor,
    whole: Tensor | None,
) -> Tensor | None:
    if use is None:
        return None
    totals = torch.stack(gradients) if gradients else parameter.new_zeros(0, *parameter.shape)
    use.charge(live, totals)
    return use.hand_out(totals.sum(0) if whole is None else whole)
