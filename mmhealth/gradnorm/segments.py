"""`Segments`: the flattened rows of one layer input, as stretches that belong to a trajectory."""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

NOBODY = -1
"""Trajectory of a position that belongs to none: padding."""

Bounds = list[tuple[int, int, int]]


class Segments:
    """Stretches ``(trajectory, start, end)`` of rows that cover every row with a trajectory once,
    each trajectory in one stretch, in the order of ``order`` where there is one.
    """

    def __init__(
        self,
        index: Tensor,
        lengths: Tensor | int,
        *,
        ids: Tensor | None = None,
        starts: Tensor | None = None,
        order: Tensor | None = None,
        dead: Tensor | None = None,
    ) -> None:
        """A number as ``lengths``: stretches of that length tile all rows."""
        self.index = index
        """(members,) trajectories in the order of the stretches."""
        self.length = lengths if isinstance(lengths, int) else None
        """Common length of all stretches where they tile all rows one after another."""
        self.rising = ids is None
        """Whether trajectories are known to come in the order of their numbers."""
        self.order = order
        """(rows with a trajectory,): where rows of a trajectory are apart, they are gathered."""
        self.dead = dead
        """Rows of nobody: their gradient must be 0."""
        self.trimmed: Segments | None = None
        """The same without padding, where padding carries no gradient."""
        self._lengths, self._starts, self._ids = lengths, starts, ids

    @classmethod
    def even(cls, index: Tensor, length: int) -> "Segments":
        """Stretches of one length, one for each of (members,) trajectories."""
        return cls(index, length)

    @classmethod
    def of(cls, ids: Tensor) -> "Segments":
        """Segments of (rows,) trajectories."""
        runs, lengths = torch.unique_consecutive(ids, return_counts=True)
        alive = runs != NOBODY
        dead = None if bool(alive.all()) else (ids == NOBODY).nonzero().squeeze(1)
        order = None
        if len(runs[alive]) != len(runs[alive].unique()):
            order = torch.argsort(ids, stable=True)[0 if dead is None else len(dead) :]
            runs, lengths = torch.unique_consecutive(ids[order], return_counts=True)
            alive = torch.ones_like(runs, dtype=torch.bool)
        starts = lengths.cumsum(0) - lengths
        index, lengths, starts = runs[alive], lengths[alive], starts[alive]
        tiles = (
            order is None and dead is None and len(index) and bool((lengths == lengths[0]).all())
        )
        even = int(lengths[0]) if tiles else lengths
        return cls(index, even, ids=ids, starts=starts, order=order, dead=dead)

    @cached_property
    def ids(self) -> Tensor:
        """(rows,) trajectory of each row, `NOBODY` for padding."""
        if self._ids is not None:
            return self._ids
        assert self.length is not None
        return self.index.repeat_interleave(self.length)

    @cached_property
    def members(self) -> list[int]:
        """Trajectories in the order of ``bounds``."""
        members: list[int] = self.index.tolist()
        return members

    @cached_property
    def bounds(self) -> Bounds:
        """(trajectory, start, end) of every stretch."""
        if isinstance(self._lengths, int):
            n = self._lengths
            return [(i, at * n, (at + 1) * n) for at, i in enumerate(self.members)]
        assert self._starts is not None
        ends = self._starts + self._lengths
        return list(zip(self.members, self._starts.tolist(), ends.tolist(), strict=True))

    def gathered(self, rows: Tensor) -> Tensor:
        """Rows in the order of ``bounds``."""
        return rows if self.order is None else rows.index_select(0, self.order)

    def stretches(self, *tensors: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Each trajectory with its stretch of tensors that were `gathered`."""
        if self.order is not None or self.dead is None:
            lengths = [b - a for _, a, b in self.bounds]
            parts = zip(*(torch.split(t, lengths) for t in tensors), strict=True)
            yield from zip(self.members, parts, strict=True)
            return
        for i, a, b in self.bounds:
            yield i, tuple(t[a:b] for t in tensors)

    def live(self, gradient: Tensor) -> "Segments | None":
        """The segments to use for (rows, ...) output gradients, padding left out where its gradient
        is verified to be 0; None if rows of nobody carry a gradient.
        """
        if self.trimmed is not None and _is_zero(gradient, self.trimmed.dead):
            return self.trimmed
        return self if _is_zero(gradient, self.dead) else None

    def sums(self, rows: Tensor) -> Tensor:
        """(len(bounds), ...): sum of (rows, ...) over each trajectory, in float32 at least."""
        wide = torch.promote_types(rows.dtype, torch.float32)
        if self.length is not None:
            tiles = rows.reshape(len(self.index), self.length, *rows.shape[1:])
            return tiles.sum(1, dtype=wide)
        parts = [part.sum(0, dtype=wide) for _, (part,) in self.stretches(self.gathered(rows))]
        return torch.stack(parts) if parts else rows.new_zeros(0, *rows.shape[1:], dtype=wide)


def _is_zero(gradient: Tensor, rows: Tensor | None) -> bool:
    return rows is None or not bool(gradient.index_select(0, rows).any())
