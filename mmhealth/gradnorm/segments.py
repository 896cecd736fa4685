"""`Segments`: the flattened rows of one layer input, as stretches that belong to a trajectory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NOBODY = -1
"""Trajectory of a position that belongs to none: padding."""


@dataclass(eq=False)
class Segments:
    """Stretches ``(trajectory, start, end)`` of rows that cover every row with a trajectory once,
    each trajectory in one stretch, in the order of ``order`` where there is one.
    """

    ids: Tensor
    """(rows,) trajectory of each row, `NOBODY` for padding."""
    bounds: list[tuple[int, int, int]]
    order: Tensor | None = None
    """(rows with a trajectory,): where rows of a trajectory are apart, they are gathered first."""
    dead: Tensor | None = None
    """Rows of nobody: their gradient must be 0."""
    trimmed: "Segments | None" = None
    """The same without padding, where padding carries no gradient."""

    @classmethod
    def of(cls, ids: Tensor) -> "Segments":
        """Segments of (rows,) trajectories."""
        runs, lengths = torch.unique_consecutive(ids, return_counts=True)
        alive = runs != NOBODY
        dead = None if bool(alive.all()) else (ids == NOBODY).nonzero().squeeze(1)
        order = None
        if len(runs[alive]) == len(runs[alive].unique()):
            ends = lengths.cumsum(0)
            starts = ends - lengths
        else:
            order = torch.argsort(ids, stable=True)[0 if dead is None else len(dead) :]
            runs, lengths = torch.unique_consecutive(ids[order], return_counts=True)
            alive = torch.ones_like(runs, dtype=torch.bool)
            ends = lengths.cumsum(0)
            starts = ends - lengths
        bounds = torch.stack([runs, starts, ends], 1)[alive]
        return cls(ids, [(i, a, b) for i, a, b in bounds.tolist()], order, dead)

    @property
    def members(self) -> list[int]:
        """Trajectories in the order of ``bounds``."""
        return [i for i, _, _ in self.bounds]

    def uniform(self) -> int | None:
        """Common length of all stretches where they tile all rows one after another, else None."""
        if self.order is not None or self.dead is not None or not self.bounds:
            return None
        length = self.bounds[0][2] - self.bounds[0][1]
        return length if all(b - a == length for _, a, b in self.bounds) else None

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
        length = self.uniform()
        wide = torch.promote_types(rows.dtype, torch.float32)
        if length is not None:
            return rows.reshape(len(self.bounds), length, *rows.shape[1:]).sum(1, dtype=wide)
        parts = [part.sum(0, dtype=wide) for _, (part,) in self.stretches(self.gathered(rows))]
        return torch.stack(parts) if parts else rows.new_zeros(0, *rows.shape[1:], dtype=wide)


def _is_zero(gradient: Tensor, rows: Tensor | None) -> bool:
    return rows is None or not bool(gradient.index_select(0, rows).any())
