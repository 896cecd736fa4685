"""Rules of matrix products: `torch.nn.functional.linear`, ``addmm``, ``x @ W``."""

from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.follow import ids_of, put_ids
from mmhealth.gradnorm.intercept import Interception, UnfollowedError
from mmhealth.gradnorm.matrix import Matrix, multiply

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def product(
    seen: Interception, x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool = False
) -> Tensor:
    """``x W^T + b`` (or ``x W + b``) with whatever of weight and bias is trainable owned."""
    if weight.ndim != 2 or x.ndim < 2 or (bias is not None and bias.ndim != 1):
        raise UnfollowedError("only products of rows with a matrix have a rule")
    demand_targets(seen, weight, bias)
    segments = seen.segments(x, x.ndim - 1)
    how = Matrix(
        seen.use(weight, segments), seen.use(bias, segments), transposed, _autocast_dtype(x, weight)
    )
    if how.weight is None and how.bias is None:
        return _frozen(x, weight, bias, transposed=transposed)
    result = multiply(x, weight, bias, how)
    put_ids(result, ids_of(x))
    if not x.requires_grad:
        seen.mark_fresh(result, weight if how.weight else bias)
    return result


def demand_targets(seen: Interception, *tensors: Tensor | None) -> None:
    """Weights computed from the input have gradients that no rule here returns."""
    if any(t is not None and t.requires_grad and seen.handle(t) is None for t in tensors):
        raise UnfollowedError("its partner in the operation is computed, not a parameter")


def linear(seen: Interception, args: Args, kwargs: Kwargs) -> Tensor:
    """``linear(x, W, b)``."""
    x, weight, bias = args if len(args) == 3 else bound(args, kwargs, "input", "weight", "bias")
    return product(seen, x, weight, bias)


def addmm(seen: Interception, args: Args, kwargs: Kwargs) -> Tensor:
    """``addmm(b, x, W)``, GPT-2's ``Conv1D``."""
    bias, x, weight = bound(args, kwargs, "input", "mat1", "mat2")
    if kwargs.keys() & {"beta", "alpha", "out"} or seen.handle(x) is not None:
        raise UnfollowedError("only addmm(bias, x, weight) has a rule")
    return product(seen, x, weight, bias, transposed=True)


def matmul(seen: Interception, args: Args, kwargs: Kwargs) -> Tensor:
    """``x @ W``."""
    if len(args) != 2 or kwargs or seen.handle(args[0]) is not None:
        raise UnfollowedError("only a product with the parameter on the right has a rule")
    return product(seen, args[0], args[1], None, transposed=True)


def bound(args: Args, kwargs: Kwargs, *names: str) -> list[Any]:
    """The arguments of these names, None where absent."""
    return [args[k] if k < len(args) else kwargs.get(name) for k, name in enumerate(names)]


def _frozen(x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
    result = torch.nn.functional.linear(x, weight.t() if transposed else weight, bias)
    put_ids(result, ids_of(x))
    return result


def _autocast_dtype(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """What autocast computes the product in; it leaves float64 alone."""
    kind = x.device.type
    if torch.float64 in (x.dtype, weight.dtype):
        return None
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
