"""TRL's fused head, with its gradient owned.

TRL computes log probabilities from hidden states in one autograd function that never holds the
logits, so that no module and no operation of torch shows that ``lm_head.weight`` was used. While a
step is measured, that function asks `torch.overrides` first and so gets a rule: its own forward and
backward pass run as they are, to the bit. On the CPU a trajectory's norm is taken from what passes
by (`mmhealth.integrations.trl.tiles`). Where that does not tell it the backward pass runs once
more, for the trajectory, over the tokens that have a gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import trl.trainer.utils as where
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from mmhealth.gradnorm.intercept import Interception
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.use import Use
from mmhealth.integrations.trl.tiles import Tiles, watched

_NAME = "_ChunkedLogProbFunction"
_ORIGINAL: Any = getattr(where, _NAME, None)
_WEIGHT, _BIAS = 1, 2
"""Places among the gradients of the original's backward pass."""


class _Head:
    """Stands in for TRL's function."""

    @staticmethod
    def apply(hidden: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Any:
        """Per-token outputs of (tokens, d) hidden states."""
        tensors = (hidden, weight) if bias is None else (hidden, weight, bias)
        if has_torch_function(tensors):
            return handle_torch_function(_Head.apply, tensors, hidden, weight, bias, *rest)
        return _ORIGINAL.apply(hidden, weight, bias, *rest)


@contextmanager
def visible_head() -> Iterator[None]:
    """While it is open TRL's head can be seen by a meter."""
    if _ORIGINAL is None:
        yield
        return
    setattr(where, _NAME, _Head)
    try:
        yield
    finally:
        setattr(where, _NAME, _ORIGINAL)


def _rule(seen: Interception, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    hidden, weight, bias, *rest = args
    segments = seen.segments(hidden, 1)
    uses = (seen.use(weight, segments), seen.use(bias, segments))
    return _Owned.apply(hidden, weight, bias, *rest, uses)  # type: ignore[no-untyped-call]


RULES = {_Head.apply: _rule}
"""For `mmhealth.gradnorm.GradNorms`."""


class _Owned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        ctx.uses = args[-1]
        return _ORIGINAL.forward(ctx, *args[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        with torch._C.DisableTorchFunction():
            tokens = _Tokens(ctx, gradients)
            charges = [None if use is None else _Charge(use, tokens, i) for i, use in _places(ctx)]
            weight = charges[0]
            tiles = None if weight is None else weight.tiles()
            with watched(tiles, tokens.hidden):
                found = list(_ORIGINAL.backward(ctx, *gradients))
            for charge in charges:
                if charge is not None and found[charge.place] is not None:
                    charge.make(tiles if charge is weight else None)
                    found[charge.place] = charge.use.hand_out(found[charge.place])
        return *found, None


def _places(ctx: Any) -> Iterator[tuple[int, Use | None]]:
    return zip((_WEIGHT, _BIAS), ctx.uses, strict=True)


class _Tokens:
    """The call's tokens, and the gradient of its weight (or bias) over some of them."""

    def __init__(self, ctx: Any, gradients: tuple[Tensor | None, ...]) -> None:
        self._ctx = ctx
        self._gradients = gradients[:2]
        present = [g for g in self._gradients if g is not None]
        self.alive = torch.stack([g != 0 for g in present]).any(0)
        """(tokens,) whether a token has any gradient."""
        self.hidden: Tensor = ctx.saved_tensors[0]
        self.dtype: torch.dtype = ctx.compute_dtype

    def parameter(self, place: int) -> Tensor:
        """The weight or the bias."""
        found: Tensor = self._ctx.saved_tensors[place]
        return found

    def gradient(self, place: int, rows: Tensor) -> Tensor:
        """Of the tokens ``rows``."""
        hidden, weight, bias, targets, log_z, entropy = self._ctx.saved_tensors
        per_token = (t.index_select(0, rows) for t in (targets, log_z, entropy))
        part = SimpleNamespace(
            saved_tensors=(hidden.index_select(0, rows), weight, bias, *per_token),
            compute_dtype=self._ctx.compute_dtype,
            chunk_size=min(self._ctx.chunk_size, len(weight)),
            kernel_args=self._ctx.kernel_args,
            needs_input_grad=tuple(at == place for at in range(3)),
        )
        some = (None if g is None else g.index_select(0, rows) for g in self._gradients)
        gradient: Tensor = _ORIGINAL.backward(part, *some)[place]
        return gradient


class _Charge:
    """How the trajectories are charged with one parameter of the call."""

    def __init__(self, use: Use, tokens: _Tokens, place: int) -> None:
        self.use, self.place = use, place
        self._tokens = tokens
        self._live = use.live(tokens.alive)
        self._rows = dict(_rows(self._live, tokens.alive))

    def tiles(self) -> Tiles | None:
        """What is to be taken of the weight's tiles; None where whole gradients are needed."""
        ledger, handle, hidden = self.use.ledger, self.use.handle, self._tokens.hidden
        if handle.turns or hidden.device.type != "cpu" or not ledger.only_norms:
            return None
        nothing = torch.zeros(0, dtype=torch.long)
        rows = {i: self._rows.get(i, nothing) for i in self._members()}
        columns = {i: ledger.own_rows(handle.target, i) for i in rows}
        rounded = hidden.to(self._tokens.dtype)
        return Tiles(rounded, self._tokens.parameter(self.place), rows, columns)

    def make(self, tiles: Tiles | None) -> None:
        """Charge them."""
        ledger, target, rows = self.use.ledger, self.use.handle.target, self._rows
        if ledger.defers(target):
            ledger.later(target, self._summand, rows)
            return
        members = self._members()
        squares = [self._square(i, tiles) for i in members]
        if squares:
            index = torch.tensor(members, device=squares[0].device)
            ledger.add(target, index, torch.stack([square.double() for square in squares]))

    def _summand(self, trajectory: int) -> Tensor | None:
        mine = self._rows.get(trajectory)
        if mine is None:
            return None
        return self.use.handle.back(self._tokens.gradient(self.place, mine))

    def _members(self) -> list[int]:
        """A tied embedding waits for the head's share of all, were it nothing."""
        tied = self.use.ledger.tied(self.use.handle.target)
        return self._live.members if tied else list(self._rows)

    def _square(self, trajectory: int, tiles: Tiles | None) -> Tensor:
        ledger, handle = self.use.ledger, self.use.handle
        square = None if tiles is None else tiles.square(trajectory)
        if tiles is not None and square is not None:
            ledger.keep_rows(handle.target, trajectory, tiles.kept(trajectory))
            return square
        mine = self._rows.get(trajectory)
        if mine is None:
            parameter = self._tokens.parameter(self.place)
            gradient = parameter.new_zeros(()).expand(parameter.shape)
        else:
            gradient = self._tokens.gradient(self.place, mine)
        return ledger.stream(handle, trajectory, gradient)


def _rows(live: Segments, alive: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each trajectory that has a gradient, with the tokens that have."""
    places = torch.arange(len(alive), device=alive.device)
    for i, (own, has) in live.stretches(live.gathered(places), live.gathered(alive)):
        mine = own[has]
        if len(mine):
            yield i, mine
