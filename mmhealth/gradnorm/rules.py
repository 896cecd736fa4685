"""Which operation goes through which owned gradient: the table of everything that is covered."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmhealth.gradnorm.affine import Norm, layer_norm, spread
from mmhealth.gradnorm.follow import ids_of, put_ids, tensors_in
from mmhealth.gradnorm.intercept import Interception, Rule, UnfollowedError
from mmhealth.gradnorm.products import Args, Kwargs, addmm, bound, demand_targets, linear, matmul
from mmhealth.gradnorm.sequences import attention, cell, recurrent
from mmhealth.gradnorm.table import Table, look_up
from mmhealth.gradnorm.use import Use


def _embedding(seen: Interception, args: Args, kwargs: Kwargs) -> Tensor:
    names = "input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq"
    indices, table, padding, max_norm, _, by_frequency = bound(args, kwargs, *names)
    sparse = args[6] if len(args) > 6 else kwargs.get("sparse", False)
    handle = seen.handle(table)
    if max_norm is not None or by_frequency or sparse or handle is None or not handle.whole:
        raise UnfollowedError("max_norm, scale_grad_by_freq and sparse embeddings have no rule")
    layout = seen.layout
    if layout is None and not torch.is_grad_enabled():
        raise UnfollowedError("no gradient is wanted")
    shared = layout is not None and layout.per_row and _are_positions(indices, len(layout.ids))
    if shared and layout is not None:
        indices = indices.reshape(1, -1).expand(len(layout.ids), -1)
    segments = seen.segments(indices, indices.ndim)
    seen.ledger.looked_up(handle.target, segments.ids, indices.detach().reshape(-1))
    if not torch.is_grad_enabled():
        raise UnfollowedError("no gradient is wanted")
    padding = -1 if padding is None else padding % len(table)
    use = Use(seen.ledger, handle, segments, seen.ledger.part)
    result = look_up(indices, table, Table(use, padding, shared))
    put_ids(result, ids_of(indices))
    seen.mark_fresh(result, table)
    return result


def _are_positions(indices: Tensor, rows: int) -> bool:
    """Whether these are positions, (time,) or (1, time), that serve all rows: they are expanded.

    Anything but numbers that rise by one is somebody's tokens.
    """
    if ids_of(indices) is not None or indices.numel() == 0:
        return False
    one_row = (indices.ndim == 1 and len(indices) != rows) or (
        indices.ndim == 2 and indices.shape[0] == 1 and rows > 1
    )
    return one_row and bool((indices.reshape(-1).diff() == 1).all())


def _layer_norm(seen: Interception, args: Args, kwargs: Kwargs) -> Tensor:
    names = "input", "normalized_shape", "weight", "bias", "eps"
    x, shape, weight, bias, eps = bound(args, kwargs, *names)
    demand_targets(seen, weight, bias)
    segments = seen.segments(x, x.ndim - len(shape))
    eps = 1e-5 if eps is None else eps
    how = Norm(list(shape), eps, seen.use(weight, segments), seen.use(bias, segments))
    result = layer_norm(x, weight, bias, how)
    put_ids(result, ids_of(x))
    if not x.requires_grad:
        seen.mark_fresh(result, weight if how.weight else bias)
    return result


def _rms_norm(seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    x, shape, weight, eps = bound(args, kwargs, "input", "normalized_shape", "weight", "eps")
    normed = functional.rms_norm(x, shape, None, eps)
    put_ids(normed, ids_of(x))
    return _elementwise(torch.mul, seen, (normed, weight), {})


def _group_norm(seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    names = "input", "num_groups", "weight", "bias", "eps"
    x, groups, weight, bias, eps = bound(args, kwargs, *names)
    result = functional.group_norm(x, groups, None, None, 1e-5 if eps is None else eps)
    for parameter, op in ((weight, torch.mul), (bias, torch.add)):
        if parameter is None:
            continue
        use = seen.use(parameter, seen.segments(x, 1))
        shaped = parameter.reshape(-1, *[1] * (x.ndim - 2))
        if use is not None:
            uncut = use.handle.then(lambda g: g.reshape(len(g)))
            use = Use(use.ledger, uncut, use.segments, use.part)
            shaped = spread(shaped, result.shape, 1, use)
        result = op(result, shaped)
    return result


def _elementwise(func: Any, seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    """The operation with every trainable parameter spread over the result's shape."""
    tensors = tensors_in(*args, *kwargs.values())
    activations = [t for t in tensors if seen.handle(t) is None]
    if not activations or all(t.ndim == 0 for t in activations):
        raise UnfollowedError("parameters are combined with each other before they meet the input")
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))  # type: ignore[no-untyped-call]
    carrier = next((t for t in activations if ids_of(t) is not None), activations[0])
    seen.refuse_broadcast(tensors, shape)

    def replaced(value: Any) -> Any:
        handle = seen.handle(value) if isinstance(value, Tensor) else None
        if handle is None or not value.requires_grad:
            return value
        return _spread(seen, value, shape, carrier)

    result = func(*map(replaced, args), **{key: replaced(v) for key, v in kwargs.items()})
    if not any(t.requires_grad for t in activations):
        seen.mark_fresh(result, next(t for t in tensors if seen.handle(t) is not None))
    return result


def _spread(seen: Interception, value: Tensor, shape: torch.Size, carrier: Tensor) -> Tensor:
    own = value.ndim
    while own and value.shape[value.ndim - own] == 1:
        own -= 1
    problem = UnfollowedError("it covers the axis of trajectories")
    for leading in range(len(shape) - own, 0, -1):
        try:
            segments = seen.segments(carrier, leading, shape)
        except UnfollowedError as refusal:
            problem = refusal
            continue
        use = seen.use(value, segments)
        assert use is not None
        return spread(value, shape, leading, use)
    raise problem


def _expand(seen: Interception, args: Args, kwargs: Kwargs) -> Any:
    """A parameter expanded over the rows: a class token, a table of positions."""
    value = args[0]
    shape = value.expand(*args[1:], **kwargs).shape
    result = _spread(seen, value, shape, value.detach())
    seen.mark_fresh(result, value)
    return result


def _changes_bits(_seen: Interception, _args: Args, _kwargs: Kwargs) -> Any:
    raise UnfollowedError("its rule changes the last bits of gradients, bitwise=True forbids that")


def rules(*, bitwise: bool = False) -> dict[Any, Rule]:
    """Every operation that has a rule; ``bitwise``: one that leaves every bit of a gradient."""
    table: dict[Any, Rule] = {
        functional.linear: linear,
        torch.addmm: addmm,
        functional.embedding: _embedding,
        functional.layer_norm: _layer_norm,
        torch.layer_norm: _layer_norm,
        functional.rms_norm: _rms_norm,
        functional.group_norm: _group_norm,
        functional.multi_head_attention_forward: attention,
    }
    if bitwise:
        for func in (functional.rms_norm, functional.group_norm):
            table[func] = _changes_bits
        table[functional.multi_head_attention_forward] = _changes_bits
    for name in ("matmul", "mm"):
        table |= {getattr(torch, name): matmul, getattr(Tensor, name): matmul}
    table[Tensor.__matmul__] = matmul
    table |= {Tensor.expand: _expand}
    for name in ("gru", "lstm", "rnn_tanh", "rnn_relu"):
        table[getattr(torch, name)] = _changes_bits if bitwise else partial(recurrent, name)
        table[getattr(torch, f"{name}_cell")] = _changes_bits if bitwise else partial(cell, name)
    elementwise: list[Any] = []
    for name in ("add", "sub", "mul", "div", "true_divide", "maximum", "minimum", "where"):
        elementwise += [getattr(torch, name), getattr(Tensor, name)]
    for name in ("add", "sub", "mul", "truediv"):
        elementwise += [getattr(Tensor, f"__{form}{name}__") for form in ("", "r", "i")]
    elementwise += [Tensor.add_, Tensor.sub_, Tensor.mul_, Tensor.div_]
    return table | {func: partial(_elementwise, func) for func in elementwise}
