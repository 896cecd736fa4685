"""GRU, LSTM and plain RNN, unrolled, with their weights' gradients owned.

The gates' input part ``x W_ih^T + b_ih`` is one linear map over all time steps. The recurrent part
``h W_hh^T + b_hh`` runs step by step with frozen weights plus a tensor of zeros, one entry a step.
Autograd's backpropagation through time leaves in those zeros the gradient of every step's gates at
once; with the states kept along the way that is one more linear map over all steps. The result is
that of torch's own module to rounding. Costs: the states and gates of all steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.summands import own
from mmhealth.gradnorm.use import Use

Gates = dict[str, int]
GATES: Gates = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
"""Rows of the weights per hidden unit, by the name of torch's function."""

Project = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``x W^T + b`` with the weights' gradients owned; x is (rows, time, features)."""

Recur = Callable[[Tensor, Tensor | None, tuple[int, int, int]], tuple[Tensor, "Held"]]
"""Zeros (time, rows, gates) that stand for a recurrent weight and bias, and where states go."""


GruLayer = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""States of a GRU layer from gates' input part, first state, recurrent weight and bias."""


@dataclass(eq=False)
class Held:
    """What a recurrent weight saw: a state (rows, hidden) per step."""

    weight: Use | None
    bias: Use | None
    states: list[Tensor] = field(default_factory=list)


def zeros(weight: Tensor, bias: Tensor | None, shape: tuple[int, int, int], held: Held) -> Tensor:
    """(time, rows, gates) of zeros whose gradient is the gates' at every step."""
    result: Tensor = _Steps.apply(weight, bias, shape, held)  # type: ignore[no-untyped-call]
    return result


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, _bias: Tensor | None, shape: tuple[int, int, int], held: Held
    ) -> Tensor:
        ctx.held = held
        return weight.new_zeros(shape)

    @staticmethod
    @backward_pass
    def backward(ctx: Any, _saved: Saved, gradient: Tensor) -> Gradients:
        held: Held = ctx.held
        rows_first = gradient.transpose(0, 1)
        g = rows_first.reshape(-1, gradient.shape[-1])
        g_weight = g_bias = None
        if held.weight is not None:
            states = torch.stack(held.states, 1)
            x = states.reshape(-1, states.shape[-1]).to(g.dtype)
            g_weight = held.weight.hand_out(own(held.weight, held.weight.live(g), x, g))
        if held.bias is not None:
            g_bias = held.bias.hand_out(held.bias.sums(g))
        return g_weight, g_bias, None, None


def unrolled(
    kind: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Sequence[Tensor]],
    *,
    project: Project,
    recur: Recur,
    gru: GruLayer,
    directions: int,
    dropout: float,
) -> tuple[Tensor, list[Tensor]]:
    """(rows, time, directions * hidden) and last states (layers * directions, rows, hidden).

    x is (rows, time, features); ``weights`` holds W_ih, W_hh and, if any, b_ih, b_hh of each layer
    and direction in torch's order; ``states`` the initial h (and c).
    """
    last: list[list[Tensor]] = [[] for _ in states]
    for layer in range(len(weights) // directions):
        if layer and dropout:
            time_first = x.transpose(0, 1).contiguous()  # as torch draws the mask
            x = functional.dropout(time_first, dropout).transpose(0, 1)
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            start = [state[at] for state in states]
            inputs = x.flip(1) if direction else x
            out, end = _layer(
                kind, inputs, start, weights[at], project=project, recur=recur, gru=gru
            )
            outputs.append(out.flip(1) if direction else out)
            for kept, state in zip(last, end, strict=True):
                kept.append(state)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x, [torch.stack(kept) for kept in last]


def _layer(
    kind: str,
    x: Tensor,
    state: list[Tensor],
    weights: Sequence[Tensor],
    *,
    project: Project,
    recur: Recur,
    gru: GruLayer,
) -> tuple[Tensor, list[Tensor]]:
    w_ih, w_hh = weights[:2]
    b_ih, b_hh = weights[2:] if len(weights) == 4 else (None, None)
    gates = project(x, w_ih, b_ih)
    if kind == "gru" and gates.dtype == state[0].dtype == w_hh.dtype:
        out = gru(gates, state[0], w_hh, b_hh)
        return out, [out[:, -1]]
    gates_x = gates.unbind(1)
    gates_zero, held = recur(w_hh, b_hh, (x.shape[1], x.shape[0], w_hh.shape[0]))
    weight, bias = w_hh.detach(), None if b_hh is None else b_hh.detach()
    outputs = []
    for gate_x, zero in zip(gates_x, gates_zero.unbind(0), strict=True):
        held.states.append(state[0].detach())
        gate_h = functional.linear(state[0], weight, bias) + zero
        state = step(kind, gate_x, gate_h, state)
        outputs.append(state[0])
    return torch.stack(outputs, 1), state


def step(kind: str, gate_x: Tensor, gate_h: Tensor, state: list[Tensor]) -> list[Tensor]:
    """The next h (and c) of a cell, given both parts of its gates."""
    return _CELLS[kind](gate_x, gate_h, state)


def _gru(gate_x: Tensor, gate_h: Tensor, state: list[Tensor]) -> list[Tensor]:
    reset_x, update_x, new_x = gate_x.chunk(3, -1)
    reset_h, update_h, new_h = gate_h.chunk(3, -1)
    update = torch.sigmoid(update_x + update_h)
    new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return [new + update * (state[0] - new)]


def _lstm(gate_x: Tensor, gate_h: Tensor, state: list[Tensor]) -> list[Tensor]:
    into, forget, cell, out = (gate_x + gate_h).chunk(4, -1)
    c = torch.sigmoid(forget) * state[1] + torch.sigmoid(into) * torch.tanh(cell)
    return [torch.sigmoid(out) * torch.tanh(c), c]


_CELLS: dict[str, Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": lambda x, h, _: [torch.tanh(x + h)],
    "rnn_relu": lambda x, h, _: [torch.relu(x + h)],
}
