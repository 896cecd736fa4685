"""Following trajectories through operations that move tokens: routing to experts, transposes.

A tensor whose leading axes are no longer those of the layout carries the trajectory of each of its
rows as an attribute. It is set where tokens are gathered by index (experts, unpadding) or axis 0 is
moved (time-first modules), and handed on while the leading axes stay. How an operation moves tokens
is found by doing it to the trajectory numbers themselves.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mmhealth.gradnorm.layout import Layout

_NAME = "_mmhealth_trajectories"
LOST = torch.empty(0, dtype=torch.long)
"""Carried by a tensor whose tokens were moved in a way that cannot be told."""

_INDEXING = {"__getitem__", "index_select", "select", "narrow", "flip", "flipud", "roll",
             "repeat", "tile", "repeat_interleave"}  # fmt: skip
_SPLITTING = {"split", "chunk", "tensor_split", "split_with_sizes", "unbind"}
_TURNING = {"t", "transpose", "permute", "movedim", "swapaxes", "swapdims", "moveaxis"}
_PICKING = {"gather", "take_along_dim", "rot90"}
_RESHAPING = {"view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten"}
_JOINING = {"cat", "concat", "concatenate", "stack"}
_MOVING = _INDEXING | _TURNING | _JOINING | _SPLITTING | _PICKING
_FIRST_ONLY = {"matmul", "mm", "bmm", "__matmul__", "linear", "scaled_dot_product_attention"}
_NEVER = ("index_", "scatter", "masked_scatter", "__setitem__", "einsum", "sort", "topk", "gather")


def ids_of(tensor: Tensor) -> Tensor | None:
    """(leading axes) trajectories that a tensor carries, None where the layout's shape decides."""
    found: Tensor | None = getattr(tensor, _NAME, None)
    return found


def put_ids(tensor: Tensor, ids: Tensor | None) -> None:
    """Let a tensor carry the trajectories of its leading axes."""
    if ids is not None:
        setattr(tensor, _NAME, ids)


def tensors_in(*values: Any) -> list[Tensor]:
    """Tensors among arguments, one level of lists and tuples deep."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [inner for inner in value if isinstance(inner, Tensor)]
    return found


Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""Function, arguments, keyword arguments."""


class Follower:
    """Hands trajectories from the arguments of an operation to its results."""

    def __init__(self) -> None:
        self._carrying = False

    def concerned(self, name: str) -> bool:
        """Whether an operation of this name may move tokens, or hand on what is carried."""
        return self._carrying or name in _MOVING

    def follow(self, layout: Layout | None, name: str, call: Call, result: Any) -> None:
        """Let the results of a call of this name carry what is known of their rows."""
        func, args, kwargs = call
        if layout is None or not args or not tensors_in(result):
            return
        x = args[0]

        def act(tensor: Tensor) -> Any:
            return func(tensor, *args[1:], **kwargs)

        if name in _JOINING:
            self._carrying |= _join(layout, name, result, args, kwargs)
        elif not isinstance(x, Tensor):
            self._hand_on(layout, name, result, args, kwargs)
        elif name in _RESHAPING:
            carried = ids_of(x)
            if carried is not None and carried.numel():
                _mark(layout, result, _reshaped(result, carried))
        elif name in _INDEXING or (
            name in _TURNING and (ids_of(x) is not None or _turns_axis_0(name, x, args, kwargs))
        ):
            self._move(layout, x, result, act, lose=name in _TURNING)
        elif name in _PICKING:
            if _picks_axis_0(name, x, args, kwargs):
                self._pick(layout, x, result, act)
        elif name in _SPLITTING:
            if self._carrying or _splits_axis_0(name, x, args, kwargs):
                self._move(layout, x, result, act, lose=False)
        elif not name.startswith(_NEVER):
            self._hand_on(layout, name, result, args, kwargs)

    def _move(
        self,
        layout: Layout,
        x: Tensor,
        result: Any,
        act: Callable[[Tensor], Any],
        *,
        lose: bool,
    ) -> None:
        ids = ids_of(x)
        if ids is LOST:
            return
        if ids is None and not x.is_floating_point() and not (layout.per_row and x.ndim == 1):
            ids = layout.token_ids(tuple(x.shape))
        if ids is None:
            ids = layout.token_ids(tuple(x.shape[:-1]))
        if ids is None:
            return
        trailing = x.ndim - ids.ndim
        full = ids.to(x.device).reshape(*ids.shape, *[1] * trailing)
        try:
            pieces = act(full)
        except (RuntimeError, IndexError, TypeError):
            pieces = LOST
        for one, piece in zip(tensors_in(result), tensors_in(pieces), strict=False):
            found = _without(piece, trailing)
            if found is not None:
                self._carrying |= _mark(layout, one, found)
            elif lose:
                put_ids(one, LOST)
                self._carrying = True

    def _pick(
        self, layout: Layout, x: Tensor, result: Tensor, act: Callable[[Tensor], Any]
    ) -> None:
        """Elements are picked one by one: rows stay rows where all of a row come from one."""
        ids = ids_of(x)
        ids = layout.token_ids(tuple(x.shape[:-1])) if ids is None else ids
        if ids is None or ids is LOST:
            return
        spread = ids.to(x.device).reshape(*ids.shape, *[1] * (x.ndim - ids.ndim))
        picked = act(spread.expand(x.shape).contiguous())
        rows = picked[..., 0]
        whole = bool((picked == rows.unsqueeze(-1)).all())
        self._carrying |= _mark(layout, result, rows.contiguous() if whole else LOST)

    def _hand_on(
        self,
        layout: Layout,
        name: str,
        result: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if not self._carrying:
            return
        sources = args[:1] if name in _FIRST_ONLY else (*args, *kwargs.values())
        tensors = tensors_in(*sources)
        for source in tensors:
            ids = ids_of(source)
            if ids is None or ids is LOST:
                continue
            clash = any(_differs(layout, other, ids) for other in tensors if other is not source)
            for one in tensors_in(result):
                if ids_of(one) is None and one.shape[: ids.ndim] == ids.shape:
                    put_ids(one, LOST if clash else ids)


def _mark(layout: Layout, tensor: Tensor, ids: Tensor) -> bool:
    """Let a tensor carry trajectories if its shape alone does not tell them; whether it does."""
    own = ids is not LOST and layout.says(ids)
    put_ids(tensor, None if own else ids)
    return not own


def _differs(layout: Layout, other: Tensor, ids: Tensor) -> bool:
    """Whether another source, an activation, is known to be of other trajectories."""
    own = ids_of(other)
    if own is LOST or other.shape[: ids.ndim] != ids.shape:
        return False
    if own is None:
        own = layout.token_ids(tuple(ids.shape)) if other.requires_grad else None
    return own is not None and own.shape == ids.shape and not torch.equal(own.cpu(), ids.cpu())


def _without(ids: Tensor, trailing: int) -> Tensor | None:
    """Trajectory numbers without the axes of size 1 that stood for features."""
    if ids is LOST or ids.ndim <= trailing:
        return None
    if not trailing:
        return ids.contiguous()
    if any(size != 1 for size in ids.shape[-trailing:]):
        return None
    return ids.reshape(ids.shape[:-trailing]).contiguous()


def _reshaped(result: Tensor, ids: Tensor) -> Tensor:
    """Trajectories of a tensor whose elements kept their order."""
    for keep in range(max(1, result.ndim - 1), 0, -1):
        leading = result.shape[:keep]
        positions = math.prod(leading)
        if positions and positions % ids.numel() == 0:
            return ids.reshape(-1).repeat_interleave(positions // ids.numel()).reshape(leading)
        if positions and ids.numel() % positions == 0:
            merged = ids.reshape(positions, -1)
            if bool((merged == merged[:, :1]).all()):
                return merged[:, 0].reshape(leading)
    return LOST


def _join(
    layout: Layout, name: str, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Let a concatenation or stack carry its parts' trajectories; whether it does."""
    parts = tensors_in(args[0])
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.ndim
    carried = [ids_of(t) for t in parts]
    known = [ids for ids in carried if ids is not None and ids.numel()]
    if axis:
        if known and axis >= known[0].ndim:
            put_ids(result, known[0])
        return bool(known)
    ids = [layout.token_ids(tuple(t.shape[:-1])) if i is None else i for t, i in
           zip(parts, carried, strict=True)]  # fmt: skip
    if any(i is None or i is LOST for i in ids) or not ids:
        put_ids(result, LOST if known else None)
        return bool(known)
    same = [i for i in ids if i is not None]
    return _mark(layout, result, torch.stack(same) if name == "stack" else torch.cat(same))


def _splits_axis_0(name: str, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    at = 1 if name == "unbind" else 2
    axis = args[at] if len(args) > at else kwargs.get("dim", 0)
    return x.ndim > 0 and axis % x.ndim == 0


def _picks_axis_0(name: str, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether elements are picked along axis 0, each by an index of its own."""
    if name == "rot90":
        axes = args[2] if len(args) > 2 else kwargs.get("dims", (0, 1))
        return any(axis % x.ndim == 0 for axis in axes)
    at = 1 if name == "gather" else 2
    axis = args[at] if len(args) > at else kwargs.get("dim")
    return axis is None or (x.ndim > 0 and axis % x.ndim == 0)


def _turns_axis_0(name: str, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name == "t":
        return x.ndim == 2
    axes = [a % x.ndim for a in pytree.tree_leaves((args[1:], kwargs)) if isinstance(a, int)]
    return bool(axes) and (axes[0] != 0 if name == "permute" else 0 in axes)
