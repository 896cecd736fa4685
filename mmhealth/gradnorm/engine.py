"""Entering autograd's engine with a `TorchFunctionMode` on.

A mode intercepts `torch.autograd.backward` and ``grad`` too, and inside its handler it is off.
Given graph edges in place of tensors they see no tensor to dispatch on: they run with the mode on,
and so does every forward pass that checkpointing repeats inside them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

ENTRIES = {Tensor.backward, torch.autograd.backward, torch.autograd.grad}
"""Functions that start a backward pass."""


def run(mode: TorchFunctionMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``func(*args, **kwargs)``, one of `ENTRIES`, with the mode on."""
    kwargs = dict(kwargs)
    if func is Tensor.backward:
        func = torch.autograd.backward
        names = ("tensors", "grad_tensors", "retain_graph", "create_graph", "inputs")
        kwargs["grad_tensors"] = kwargs.pop("gradient", None)
    elif func is torch.autograd.backward:
        names = ("tensors", "grad_tensors", "retain_graph", "create_graph", "grad_variables")
    else:
        names = ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph")
    kwargs |= dict(zip(names, args, strict=False))
    roots = _tuple(kwargs.pop(names[0]))
    inputs = None if kwargs.get("inputs") is None else _tuple(kwargs["inputs"])
    everything = [*roots, *(inputs or ())]
    if any(isinstance(t, Tensor) and not t.requires_grad for t in everything):
        return func(roots, **kwargs)  # it raises, or returns None where unused ones are allowed
    if inputs is not None:
        kwargs["inputs"] = tuple(map(_edge, inputs))
    with mode:
        return func(tuple(map(_edge, roots)), **kwargs)


def _tuple(values: Any) -> tuple[Any, ...]:
    return (values,) if isinstance(values, (Tensor, GradientEdge)) else tuple(values)


def _edge(value: Any) -> Any:
    return get_gradient_edge(value) if isinstance(value, Tensor) else value
