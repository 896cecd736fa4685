"""One layer of a GRU, forward and backward by hand.

What the state of a step does to the next loss is linear in the state's gradient, so everything
about the gates that does not depend on that gradient is computed for all steps at once; per step
remain one product with the recurrent weight and three element-wise operations. The weight's own
gradient is a linear map over all steps (`mmhealth.gradnorm.summands`). Equations as of
`torch.nn.GRU`: Cho et al. 2014, arXiv 1406.1078, with the reset gate after the recurrent product.
"""

from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.summands import own
from mmhealth.gradnorm.use import Use


class Recurrent:
    """Uses of a layer's recurrent weight and bias; None where frozen or absent."""

    def __init__(self, weight: Use | None, bias: Use | None) -> None:
        self.weight, self.bias = weight, bias


def gru_layer(
    gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, how: Recurrent
) -> Tensor:
    """(rows, time, hidden) states, given (rows, time, 3 hidden) input parts of the gates."""
    states: Tensor = _Layer.apply(gates, state, weight, bias, how)  # type: ignore[no-untyped-call]
    return states


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        gates, state, weight, bias, how = inputs
        rows, time, _ = gates.shape
        hidden = weight.shape[1]
        recurrent = torch.empty_like(gates)
        switches = gates.new_empty(rows, time, 2 * hidden)
        candidates = gates.new_empty(rows, time, hidden)
        states = gates.new_empty(rows, time + 1, hidden)
        states[:, 0] = state
        turned = weight.t()
        bias = gates.new_zeros(3 * hidden) if bias is None else bias
        last, *following = states.unbind(1)
        for x, h, s, c, following_state in zip(
            gates.unbind(1),
            recurrent.unbind(1),
            switches.unbind(1),
            candidates.unbind(1),
            following,
            strict=True,
        ):
            torch.addmm(bias, last, turned, out=h)
            torch.add(x[:, : 2 * hidden], h[:, : 2 * hidden], out=s).sigmoid_()
            torch.addcmul(x[:, 2 * hidden :], s[:, :hidden], h[:, 2 * hidden :], out=c).tanh_()
            last = torch.lerp(c, last, s[:, hidden:], out=following_state)
        ctx.save_for_backward(switches, recurrent[..., 2 * hidden :], candidates, states, weight)
        ctx.how = how
        of_steps: Tensor = states[:, 1:].clone()
        return of_steps

    @staticmethod
    @backward_pass
    def backward(ctx: Any, saved: Saved, gradient: Tensor) -> Gradients:
        switches, news, candidates, states, weight = saved
        how: Recurrent = ctx.how
        rows, time, hidden = candidates.shape
        reset, update = switches.split(hidden, -1)
        factors = candidates.new_empty(rows, time, 3, hidden)
        of_reset, of_update, of_new = factors.unbind(2)
        new = (1 - update).mul_(1 - candidates.square())
        torch.mul(new, reset, out=of_new)
        torch.mul(of_new, news, out=of_reset).mul_(1 - reset)
        torch.sub(states[:, :-1], candidates, out=of_update).mul_(update).mul_(1 - update)
        into_states, into_gates = torch.empty_like(candidates), torch.empty_like(factors)
        per_step = [t.unbind(1) for t in (gradient, update, factors, into_states, into_gates)]
        upstream = torch.zeros_like(states[:, 0])
        for g, kept, factor, here, gates in zip(*map(reversed, per_step), strict=True):
            torch.add(g, upstream, out=here)
            torch.mul(factor, here.unsqueeze(1), out=gates)
            upstream = torch.addmm(here * kept, gates.view(rows, -1), weight)
        g_x = into_gates.clone()
        torch.mul(new, into_states, out=g_x[:, :, 2])
        flat = into_gates.view(rows * time, -1)
        g_weight = g_bias = None
        if how.weight is not None:
            before = states[:, :-1].reshape(rows * time, -1)
            summed = own(how.weight, how.weight.live(flat), before, flat)
            g_weight = how.weight.hand_out(summed)
        if how.bias is not None:
            g_bias = how.bias.hand_out(how.bias.sums(flat))
        return g_x.view(rows, time, -1), upstream, g_weight, g_bias, None
