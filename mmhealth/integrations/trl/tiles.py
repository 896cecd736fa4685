"""The gradient of the logits, seen tile by tile while TRL's fused head makes it.

The backward pass of that head makes (tokens, entries) tiles D of the gradient of the logits, one
stretch of the vocabulary after another, and adds ``D^T h`` to the weight's gradient, h being the
hidden states. A trajectory's norm needs of D only the products of the trajectory's tokens with each
other (`mmhealth.gradnorm.grams`), and a tied embedding the rows of ``D^T h`` that its tokens read.
Both are taken as each tile passes, so that the head runs once. Tiles are read, never changed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from trl import kernels as _kernels

from mmhealth.gradnorm.grams import of_pairs

_PRODUCT = "_addmm_fp32"
_MODULE = getattr(_kernels, "chunked_logprob", None)


class Tiles:
    """What is taken of the tiles of one backward pass."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        rows: Mapping[int, Tensor],
        columns: Mapping[int, Tensor | None],
    ) -> None:
        """hidden (tokens, d), weight (entries, d); of each trajectory its tokens, and the entries,
        rising, whose rows of the gradient are wanted.
        """
        self._shape, self._tokens = weight.shape, len(hidden)
        self._hidden = {i: hidden.index_select(0, mine).float() for i, mine in rows.items()}
        self._rows, self._columns = rows, columns
        self._pairs = {i: hidden.new_zeros(len(m), len(m)).float() for i, m in rows.items()}
        self._kept: dict[int, list[Tensor]] = {i: [] for i in rows}
        self._seen = 0

    def see(self, total: Tensor, tile: Tensor) -> None:
        """``tile`` (tokens, some entries) has gone into the part ``total`` of the gradient."""
        start, size = total.storage_offset() // self._shape[1], tile.shape[1]
        if start != self._seen or len(tile) != self._tokens:
            self._seen = -1  # not as we know it: `square` is None
            return
        self._seen += size
        for i, mine in self._rows.items():
            part = tile.index_select(0, mine).float()
            self._pairs[i].addmm_(part, part.t())
            wanted = self._columns[i]
            if wanted is not None:
                here = wanted[(wanted >= start) & (wanted < start + size)] - start
                self._kept[i].append(part.index_select(1, here).t() @ self._hidden[i])

    def square(self, trajectory: int) -> Tensor | None:
        """Squared norm, a scalar; None where tiles do not tell it well enough."""
        if self._seen != self._shape[0]:
            return None
        hidden = self._hidden[trajectory]
        if not len(hidden):
            return torch.zeros((), dtype=torch.float64)
        squares, sound = of_pairs(self._pairs[trajectory][None], (hidden @ hidden.t())[None])
        return squares[0] if bool(sound) else None

    def kept(self, trajectory: int) -> Tensor:
        """(entries, d) rows of the gradient that were wanted, if any were."""
        kept = self._kept[trajectory]
        return torch.cat(kept) if kept else self._hidden[trajectory][:0]

    def concerns(self, total: Tensor, hidden_shape: torch.Size) -> bool:
        """Whether ``total`` is a part of the weight's gradient, not of the hidden states'."""
        base = total._base
        return base is not None and base.shape == self._shape != hidden_shape


@contextmanager
def watched(tiles: Tiles | None, hidden: Tensor) -> Iterator[None]:
    """While it is open ``tiles`` sees the tiles that are made."""
    product = getattr(_MODULE, _PRODUCT, None)
    if tiles is None or product is None:
        yield
        return

    def seen(total: Tensor, left: Tensor, right: Tensor) -> None:
        product(total, left, right)
        if tiles.concerns(total, hidden.shape):
            tiles.see(total, left.t())

    setattr(_MODULE, _PRODUCT, seen)
    try:
        yield
    finally:
        setattr(_MODULE, _PRODUCT, product)
