"""Rules of sequence modules of torch: recurrent networks, their cells, attention."""

import inspect
from typing import Any

from torch import Tensor
from torch.nn import functional

from mmhealth.gradnorm.attention import attend
from mmhealth.gradnorm.follow import ids_of, put_ids
from mmhealth.gradnorm.gru import Recurrent, gru_layer
from mmhealth.gradnorm.intercept import Interception, UnfollowedError
from mmhealth.gradnorm.products import Args, Kwargs, bound, demand_targets, product
from mmhealth.gradnorm.recurrent import Held, step, unrolled, zeros


def recurrent(kind: str, seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    """``torch.gru`` and its like, padded sequences."""
    if len(args) != 9 or kwargs or not isinstance(args[2], (list, tuple)):
        raise UnfollowedError("packed sequences have no rule: pass padded ones")
    x, start, flat, has_biases, layers, dropout, train, both, batch_first = args
    directions, per = 2 if both else 1, 4 if has_biases else 2
    if len(flat) != layers * directions * per:
        raise UnfollowedError("an LSTM with proj_size has no rule")
    if x.ndim != 3:
        raise UnfollowedError("a sequence without a batch axis has no rule")

    ids, layout = ids_of(x), seen.layout
    if ids is not None and ids.ndim == 2 and not batch_first:
        ids = ids.t()
    if layout is None or (ids is not None and not layout.says(ids)):
        raise UnfollowedError("a sequence whose rows were moved has no rule")

    rows = x.detach() if batch_first else x.detach().transpose(0, 1)

    def project(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(seen, inputs, weight, bias)

    def recur(weight: Tensor, bias: Tensor | None, shape: tuple[int, int, int]) -> Any:
        segments = seen.segments(rows, 2)
        held = Held(seen.use(weight, segments), seen.use(bias, segments))
        if held.weight is None and held.bias is None:
            return weight.new_zeros(shape), held
        return zeros(weight, bias, shape, held), held

    def gru(gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        segments = seen.segments(rows, 2)
        how = Recurrent(seen.use(weight, segments), seen.use(bias, segments))
        return gru_layer(gates, state, weight, bias, how)

    demand_targets(seen, *flat)
    states = start if isinstance(start, (list, tuple)) else [start]
    out, last = unrolled(
        kind,
        x if batch_first else x.transpose(0, 1),
        states,
        [flat[k : k + per] for k in range(0, len(flat), per)],
        project=project,
        recur=recur,
        gru=gru,
        directions=directions,
        dropout=dropout if train else 0.0,
    )
    if not batch_first:
        out = out.transpose(0, 1)
        put_ids(out, ids_of(x))
    return out, *last


def cell(kind: str, seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    """``torch.gru_cell`` and its like."""
    names = "input", "hx", "w_ih", "w_hh", "b_ih", "b_hh"
    x, state, w_ih, w_hh, b_ih, b_hh = bound(args, kwargs, *names)
    states = list(state) if isinstance(state, (list, tuple)) else [state]
    gates_x, gates_h = product(seen, x, w_ih, b_ih), product(seen, states[0], w_hh, b_hh)
    new = step(kind, gates_x, gates_h, states)
    return tuple(new) if len(new) > 1 else new[0]


def attention(seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    """``multi_head_attention_forward``."""
    names = [*inspect.signature(functional.multi_head_attention_forward).parameters]
    given = dict(zip(names, args, strict=False)) | kwargs
    unusual = ("bias_k", "bias_v", "q_proj_weight", "static_k", "static_v")
    if given.get("add_zero_attn") or any(given.get(name) is not None for name in unusual):
        raise UnfollowedError("attention with bias_k, zero attention or separate projections")
    if given["query"].ndim != 3:
        raise UnfollowedError("attention without a batch axis has no rule")

    def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(seen, x, weight, bias)

    result = attend(project, **given)
    put_ids(result[0], ids_of(given["query"]))
    return result
