"""TRL's fused head, with its gradient owned.

TRL computes log probabilities from hidden states in one autograd function that never holds the
logits, so that no module and no operation of torch shows that ``lm_head.weight`` was used. While a
step is measured, that function asks `torch.overrides` first and so gets a rule: its own forward and
backward pass run as they are, to the bit, and then once more for the weight's gradient of each
trajectory, over the tokens that have any.
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
            found = list(_ORIGINAL.backward(ctx, *gradients))
            for place, use in zip((_WEIGHT, _BIAS), ctx.uses, strict=True):
                if use is not None and found[place] is not None:
                    _charge(use, _Tokens(ctx, place, gradients))
                    found[place] = use.hand_out(found[place])
        return *found, None


class _Tokens:
    """The call's tokens, and the gradient of its weight (or bias) over some of them."""

    def __init__(self, ctx: Any, place: int, gradients: tuple[Tensor | None, ...]) -> None:
        self._ctx, self._place = ctx, place
        self._gradients = gradients[:2]
        present = [g for g in self._gradients if g is not None]
        self.alive = torch.stack([g != 0 for g in present]).any(0)
        """(tokens,) whether a token has any gradient."""

    @property
    def none(self) -> Tensor:
        """Of no tokens: a tied embedding waits for the head's share of each trajectory."""
        parameter: Tensor = self._ctx.saved_tensors[self._place]
        return parameter.new_zeros(()).expand(parameter.shape)

    def gradient(self, rows: Tensor) -> Tensor:
        """Of the tokens ``rows``."""
        hidden, weight, bias, targets, log_z, entropy = self._ctx.saved_tensors
        per_token = (t.index_select(0, rows) for t in (targets, log_z, entropy))
        part = SimpleNamespace(
            saved_tensors=(hidden.index_select(0, rows), weight, bias, *per_token),
            compute_dtype=self._ctx.compute_dtype,
            chunk_size=min(self._ctx.chunk_size, len(weight)),
            kernel_args=self._ctx.kernel_args,
            needs_input_grad=tuple(place == self._place for place in range(3)),
        )
        some = (None if g is None else g.index_select(0, rows) for g in self._gradients)
        gradient: Tensor = _ORIGINAL.backward(part, *some)[self._place]
        return gradient


def _charge(use: Use, tokens: _Tokens) -> None:
    ledger, handle = use.ledger, use.handle
    live = use.live(tokens.alive)
    rows = dict(_rows(live, tokens.alive))

    def summand(trajectory: int) -> Tensor | None:
        mine = rows.get(trajectory)
        return None if mine is None else handle.back(tokens.gradient(mine))

    if ledger.defers(handle.target):
        ledger.later(handle.target, summand, rows)
        return
    members = live.members if ledger.tied(handle.target) else list(rows)
    gradients = (tokens.gradient(rows[i]) if i in rows else tokens.none for i in members)
    squares = [ledger.stream(handle, i, g) for i, g in zip(members, gradients, strict=True)]
    if squares:
        index = torch.tensor(members, device=squares[0].device)
        ledger.add(handle.target, index, torch.stack(squares))


def _rows(live: Segments, alive: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each trajectory that has a gradient, with the tokens that have."""
    places = torch.arange(len(alive), device=alive.device)
    for i, (own, has) in live.stretches(live.gathered(places), live.gathered(alive)):
        mine = own[has]
        if len(mine):
            yield i, mine
