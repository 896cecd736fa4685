"""Exact rule for `torch.nn.Linear`: hooks keep inputs and output gradients of one step.

The weight gradient of trajectory i is ``sum_t g[i, t] x[i, t]^T`` over its rows, time steps and all
uses of the weight, the bias gradient ``sum_t g[i, t]``. Everything that touches a parameter is
added before it is squared. Products are taken in the dtype of the parameter, float32 at least, of
inputs as the layer saw them: under autocast it rounds them. Squares are float64; chunks of
trajectories bound the memory. Every sum is audited against the gradient that was backpropagated,
to a tolerance of the lowest precision involved.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmhealth.errors import GradNormError

_CHUNK_ELEMENTS = 1 << 20
_SUM_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
_LOW_PRECISION_TOLERANCE = 0.05
"""Of dtypes with fewer bits than float32."""


def is_plain_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether the module computes ``x W^T + b`` exactly as `torch.nn.Linear` does."""
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


@dataclass(slots=True)
class _Use:
    """One call of a layer."""

    layer: nn.Linear
    inputs: Tensor
    version: int
    grad: Tensor | None = None


class LinearCapture:
    """What the linear layers saw in one step."""

    def __init__(self, layers: Sequence[nn.Linear], names: Mapping[int, str]) -> None:
        self._layers = layers
        self._names = names
        self._uses: list[_Use] = []
        self._parameter_grads: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Register the hooks."""
        parameters: dict[int, nn.Parameter] = {}
        for layer in self._layers:
            self._handles.append(layer.register_forward_hook(self._saw_call, with_kwargs=True))
            parameters |= {id(p): p for p in layer.parameters() if p.requires_grad}
        for parameter in parameters.values():
            hook = self._parameter_hook(id(parameter))
            self._handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def clear(self) -> None:
        """Forget all tensors."""
        self._uses.clear()
        self._parameter_grads.clear()

    def squared_norms(self, owner: Tensor, count: int) -> Tensor:
        """(count,) float64: squared norm over all parameters; ``owner`` (rows,) maps rows."""
        uses = [use for use in self._uses if use.grad is not None]
        if not uses:
            raise GradNormError(
                "no gradient passed through the model: keep the step open through loss.backward()"
            )
        for use in uses:
            if use.inputs.shape[0] != len(owner) or use.inputs.ndim < 2:
                raise GradNormError(
                    f"step opened for {len(owner)} rows, but {self._name(use.layer.weight)} got "
                    f"input of shape {tuple(use.inputs.shape)}: axis 0 must be the row"
                )
            if use.inputs._version != use.version:
                raise GradNormError(
                    f"the input of {self._name(use.layer.weight)} was changed in place"
                )
        total = torch.zeros(count, dtype=torch.float64, device=uses[0].inputs.device)
        for key in self._parameter_grads:
            weight_uses = [use for use in uses if id(use.layer.weight) == key]
            bias_uses = [use for use in uses if id(use.layer.bias) == key]
            total += self._parameter(key, weight_uses, bias_uses, owner, count)
        return total

    def _parameter(
        self,
        key: int,
        weight_uses: list[_Use],
        bias_uses: list[_Use],
        owner: Tensor,
        count: int,
    ) -> Tensor:
        expected = self._parameter_grads[key]
        dtype = torch.promote_types(expected.dtype, torch.float32)
        order = torch.argsort(owner, stable=True).to(expected.device)
        owner = owner.to(expected.device)[order]
        squared = torch.zeros(count, dtype=torch.float64, device=expected.device)
        gathered = torch.zeros_like(expected, dtype=dtype)
        chunk = max(1, _CHUNK_ELEMENTS // expected.numel())
        for first, last in _ranges(count, chunk):
            low, high = torch.searchsorted(owner, torch.tensor([first, last]).to(owner)).tolist()
            gradient = gathered.new_zeros(last - first, *expected.shape)
            for a, b in _ranges(high - low, chunk):
                rows = order[low + a : low + b]
                into = owner[low + a : low + b] - first
                for use in weight_uses:
                    g = _rows(use.grad, rows)
                    x = _rows(use.inputs, rows).to(g.dtype).to(dtype)
                    g = g.to(dtype)
                    gradient.index_add_(0, into, torch.bmm(g.transpose(1, 2), x))
                for use in bias_uses:
                    gradient.index_add_(0, into, _rows(use.grad, rows).to(dtype).sum(1))
            norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64)
            squared[first:last] = norms.square()
            gathered += gradient.sum(0)
        scale = float(squared.sqrt().sum())
        gap = float(torch.linalg.vector_norm((gathered - expected).double()))
        if gap > _tolerance(expected, [*weight_uses, *bias_uses]) * scale:
            raise GradNormError(
                f"the trajectories' gradients of {self._names[key]} do not add up to the gradient "
                "backpropagated: it is used outside its module, or a term of the loss belongs to "
                "no trajectory"
            )
        return squared

    def _saw_call(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> None:
        if not output.requires_grad or not isinstance(layer, nn.Linear):
            return
        inputs: Tensor = args[0] if args else kwargs["input"]
        use = _Use(layer, inputs.detach(), inputs._version)
        self._uses.append(use)

        def saw_gradient(grad: Tensor) -> None:
            use.grad = grad.detach() if use.grad is None else use.grad + grad.detach()

        self._handles.append(output.register_hook(saw_gradient))  # type: ignore[no-untyped-call]

    def _parameter_hook(self, key: int) -> "_SumGradients":
        return _SumGradients(self._parameter_grads, key)

    def _name(self, parameter: Tensor) -> str:
        return self._names.get(id(parameter), "a frozen weight")


@dataclass(slots=True)
class _SumGradients:
    """Parameter hook: adds up what one step backpropagates into a parameter."""

    into: dict[int, Tensor]
    key: int

    def __call__(self, grad: Tensor) -> None:
        before = self.into.get(self.key)
        self.into[self.key] = grad.detach() if before is None else before + grad.detach()


def _tolerance(parameter: Tensor, uses: Sequence[_Use]) -> float:
    """How far a sum may be off, relative to the norms: by the lowest precision involved."""
    dtypes = {parameter.dtype} | {use.grad.dtype for use in uses if use.grad is not None}
    return max(_SUM_TOLERANCE.get(dtype, _LOW_PRECISION_TOLERANCE) for dtype in dtypes)


def _ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + size, count)) for first in range(0, count, size))


def _rows(tensor: Tensor | None, rows: Tensor) -> Tensor:
    """(len(rows), time, features): chosen rows with all axes between folded into time."""
    assert tensor is not None
    chosen = tensor[rows]
    return chosen.reshape(len(rows), -1, chosen.shape[-1])
