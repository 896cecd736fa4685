"""Tensors computed from one parameter alone that keep its norm: casts, transposes, ``1 + w``."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Handle, Target

_CASTS = {"to", "float", "double", "half", "bfloat16", "type", "contiguous", "clone", "cpu", "cuda"}
_UNCHANGED = _CASTS | {"add", "__add__", "__radd__", "sub", "__sub__"}
_RESHAPES = {"view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten"}
_REFLECTIONS = {"__rsub__", "rsub", "neg", "__neg__", "negative"}
_TURNED = (Tensor.T, Tensor.mT)


def is_turn(func: Any) -> bool:
    """Whether the function reads the attribute ``T`` or ``mT``."""
    return getattr(func, "__self__", None) in _TURNED


def onward(
    func: Any, handle: Handle, result: Tensor, args: tuple[Any, ...], rows: dict[Any, Target]
) -> Handle | None:
    """The handle of ``func(tensor, numbers...)``, None where the norm may change.

    ``rows`` keeps the targets of entries along axis 0, one each.
    """
    name, source = getattr(func, "__name__", ""), args[0]
    if not isinstance(source, Tensor):
        return None
    if name in {"__getitem__", "select"} and handle.whole:
        return _row(name, handle.target, args, rows)
    back = _way_back(name, is_turn(func), source, result, args)
    return None if back is None else handle.then(back)


def _way_back(
    name: str, turned: bool, source: Tensor, result: Tensor, args: tuple[Any, ...]
) -> Callable[[Tensor], Tensor] | None:
    """From the gradient of the result to that of the source."""
    shape = source.shape
    if name in _UNCHANGED:
        return lambda g: g
    if name in _RESHAPES and result.numel() == math.prod(shape):
        return lambda g: g.reshape(shape)
    if name in _REFLECTIONS:
        return torch.neg
    if (name == "t" or turned) and source.ndim == 2:
        return lambda g: g.mT
    if name in {"transpose", "swapaxes", "swapdims"} and len(args) == 3:
        return lambda g: g.transpose(args[1], args[2])
    return None


def _row(
    name: str, target: Target, args: tuple[Any, ...], rows: dict[Any, Target]
) -> Handle | None:
    """The handle of one entry along axis 0, an expert's weight in a stack."""
    chosen = args[1:] if name == "__getitem__" else (args[2] if args[1] == 0 else None,)
    index = chosen[0]
    if isinstance(index, Tensor) and index.ndim == 0 and not index.dtype.is_floating_point:
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or target.parameter.ndim < 2:
        return None
    row = index % len(target.parameter)
    key = target.name, row
    if key not in rows:
        rows[key] = Target(f"{target.name}[{row}]", target.parameter, target.parent, row)
    return Handle(rows[key], whole=False)
