"""The gradient of a weight of a linear map is built from the trajectories' gradients.

For input x and output gradient g with the rows a:e of trajectory i, both flattened to rows,
``G = g[a:e]^T x[a:e]`` into one buffer, ``|G|^2`` to the account, and G to the sum, which *is* the
parameter's gradient: no product is taken twice, one buffer of the weight's size is added. Small
weights of trajectories of one length take batched products, and trajectories of one row none: the
norm of an outer product is that of its factors, ``|g^T x| = |g| |x|`` (Goodfellow 2015). Of G and
its transpose the one that is wider than tall is computed: it is faster. Where autograd's own
product is handed out (``bitwise``) the sum is not needed, and norms come from
`mmhealth.gradnorm.grams` where that is cheaper.
"""

import math

import torch
from torch import Tensor

from mmhealth.gradnorm import grams
from mmhealth.gradnorm.charges import each_norm
from mmhealth.gradnorm.ledger import Ledger
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.target import Handle
from mmhealth.gradnorm.use import Use
from mmhealth.gradnorm.uses import Summand

_TILE = 1 << 18
"""Elements of trajectories' gradients that one batched product makes."""
_FEW = 8
"""Trajectories from which on a batched product is faster than one after another."""
_KEPT = 1 << 26
"""Elements of all trajectories' gradients that may wait for their sum."""


def own(use: Use, live: Segments, x: Tensor, g: Tensor, transposed: bool = False) -> Tensor:
    """Charge trajectories with ``g^T x`` over their rows (``x^T g`` if transposed); the sum of all.

    x (rows, in) and g (rows, out). Computed in their dtype, added up in float32 at least.
    """
    left, right = (x, g.to(x.dtype)) if transposed else (g, x.to(g.dtype))
    total = _charged(use, live, live.gathered(left), live.gathered(right))
    return left.t() @ right if use.ledger.bitwise else total


def _charged(use: Use, live: Segments, left: Tensor, right: Tensor) -> Tensor:
    """The sum of all; under ``bitwise``, where nobody asks for it, it may be anything."""
    ledger, target = use.ledger, use.handle.target
    wide = torch.promote_types(left.dtype, torch.float32)
    if ledger.sketches(use.handle, live, left, right):
        return _whole(left, right, live).to(wide)
    if ledger.defers(target):
        ledger.later(target, _summand(use, live, left, right, wide), live.members)
        return _whole(left, right, live).to(wide)
    if ledger.multiplies and live.bounds:
        return _multiplied(use, live, left, right)
    if live.length == 1 and ledger.keeps_nothing(target):
        norms = each_norm(left.to(wide)) * each_norm(right.to(wide))
        ledger.add_norms(target, live, norms)
        return (left.t() @ right).to(wide)
    only_norms = ledger.bitwise and ledger.keeps_nothing(target)
    if only_norms and live.length is not None and grams.pay(left, right, live.length):
        ledger.add_norms(target, live, grams.norms(left, right, live.length))
        return left.new_zeros(())
    at_once = _TILE // (left.shape[1] * right.shape[1])
    few = at_once < min(len(live.index), _FEW)
    tiled = live.length is not None and not few and not ledger.tied(target)
    if left.shape[1] <= right.shape[1]:
        turned, sides = use.handle, (left, right)
    else:
        turned, sides = use.handle.then(_turned), (right, left)
    if tiled:
        total = _tiled(ledger, turned, live, sides, at_once)
    else:
        total = _streamed(ledger, turned, live, sides)
    return total if turned is use.handle else _turned(total).contiguous()


def _streamed(
    ledger: Ledger, handle: Handle, live: Segments, sides: tuple[Tensor, Tensor]
) -> Tensor:
    """One trajectory after another."""
    left, right = sides
    shape = left.shape[1], right.shape[1]
    wide = torch.promote_types(left.dtype, torch.float32)
    first = bool(live.bounds) and wide == left.dtype
    total = (torch.empty if first else torch.zeros)(shape, dtype=wide, device=left.device)
    buffer = torch.empty(shape, dtype=left.dtype, device=left.device)
    squares = []
    for at, (i, (a, b)) in enumerate(live.stretches(left, right)):
        into = total if at == 0 and first else buffer
        torch.mm(a.t(), b, out=into)
        squares.append(ledger.stream(handle, i, into))
        if into is buffer:
            total.add_(buffer)
    if squares:
        ledger.add(handle.target, live.index, torch.stack(squares))
    return total


def _turned(gradient: Tensor) -> Tensor:
    return gradient.mT


def _tiled(
    ledger: Ledger, handle: Handle, live: Segments, sides: tuple[Tensor, Tensor], at_once: int
) -> Tensor:
    """Some trajectories, all of one length, in one batched product."""
    left, right = sides
    count = len(live.index)
    wide = torch.promote_types(left.dtype, torch.float32)
    tiles = count, len(left) // max(count, 1)
    left = left.reshape(*tiles, left.shape[1]).mT
    right = right.reshape(*tiles, right.shape[1])
    at_once = min(at_once, count)
    shape = at_once, left.shape[1], right.shape[2]
    buffer = ledger.scratch(shape, left)
    total, norms = None, []
    for a in range(0, count, at_once):
        b = min(a + at_once, count)
        tile = torch.bmm(left[a:b], right[a:b], out=buffer[: b - a]).to(wide)
        norms.append(ledger.norms(handle, live, tile, first=a))
        part = tile.sum(0)
        total = part if total is None else total.add_(part)
    assert total is not None
    ledger.add_norms(handle.target, live, norms[0] if len(norms) == 1 else torch.cat(norms))
    return total


def _multiplied(use: Use, live: Segments, left: Tensor, right: Tensor) -> Tensor:
    """With the product of each summand with their sum."""
    ledger, target = use.ledger, use.handle.target
    assert ledger.dots is not None
    wide = torch.promote_types(left.dtype, torch.float32)
    shape = len(live.bounds), left.shape[1], right.shape[1]
    if math.prod(shape) <= _KEPT:
        parts = _all(live, left, right, shape).to(wide)
        ledger.add_norms(target, live, ledger.norms(use.handle, live, parts))
        ledger.dots.take(target, live.index, parts)
        return parts.sum(0)
    total = _streamed(ledger, use.handle, live, (left, right))
    thin = total.to(left.dtype)
    dots = [((a @ thin) * b).sum(dtype=wide) for _, (a, b) in live.stretches(left, right)]
    ledger.dots.add(target, live.index, torch.stack(dots))
    return total


def _all(live: Segments, left: Tensor, right: Tensor, shape: tuple[int, int, int]) -> Tensor:
    if live.length is not None:
        tiles = shape[0], live.length
        left, right = left.reshape(*tiles, shape[1]), right.reshape(*tiles, shape[2])
        return torch.bmm(left.mT, right)
    parts = left.new_empty(shape)
    for part, (_, (a, b)) in zip(parts, live.stretches(left, right), strict=True):
        torch.mm(a.t(), b, out=part)
    return parts


def _summand(use: Use, live: Segments, left: Tensor, right: Tensor, wide: torch.dtype) -> Summand:
    at = {i: (a, b) for i, a, b in live.bounds}
    left, right = left.detach(), right.detach()
    versions = left._version, right._version

    def gradient(trajectory: int) -> Tensor | None:
        if trajectory not in at:
            return None
        if versions != (left._version, right._version):
            name = use.handle.target.name
            use.ledger.problem(f"the input of {name} was changed in place before its part ended")
        a, b = at[trajectory]
        return use.handle.back((left[a:b].t() @ right[a:b]).to(wide))

    return gradient


def _whole(left: Tensor, right: Tensor, live: Segments) -> Tensor:
    if live.order is None and live.dead is not None:
        left, right = _alive(left, live), _alive(right, live)
    return left.t() @ right


def _alive(rows: Tensor, live: Segments) -> Tensor:
    return torch.cat([rows[:0], *(part for _, (part,) in live.stretches(rows))])
