"""Which rows of a layer's input belong to which trajectory: batch rows, packed rows, row maps.

A `Layout` names the trajectory of every token of a batch (or part of one). Layers see the tokens
in many shapes, (rows, time, d), (rows * time, d), (1, tokens, d), with further axes between; a
layout `resolve`s the leading axes of an input to `Segments`, or to None where they do not fit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from mmhealth.errors import GradNormError
from mmhealth.gradnorm.segments import NOBODY, Segments

Shape = tuple[int, ...]

_KNOWN = 64
"""Input shapes to remember."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Trajectory of every row or token of what the model is given. Make one with the functions
    below; each numbers trajectories from 0 over the whole step, in all parts alike.
    """

    ids: Tensor
    """(rows,) with ``per_row``, else (rows, time) or (tokens,); int64 on the CPU."""
    per_row: bool
    mask: Tensor | None = None
    """(rows, time) bool: False where a row is padded; only with ``per_row``."""
    _flat: set[int] = field(default_factory=set)
    """Numbers of positions that this step has seen in more than one axis."""
    _known: dict[tuple[Shape, torch.device], Segments] = field(default_factory=dict)

    @cached_property
    def highest(self) -> int:
        """Largest trajectory number, -1 if there is none."""
        return int(self.ids.max()) if self.ids.numel() else -1

    @cached_property
    def members(self) -> list[int]:
        """Trajectories that occur, sorted."""
        return [i for i in self.ids.unique().tolist() if i != NOBODY]  # type: ignore[no-untyped-call]

    @cached_property
    def _rises(self) -> bool:
        """Whether every row is a trajectory of its own, in order."""
        return bool((self.ids.diff() > 0).all())

    def again(self) -> "Layout":
        """The same for another step: what it has worked out is kept, what it has seen is not."""
        if len(self._known) > _KNOWN:
            self._known.clear()
        return replace(self, _flat=set())

    def unmasked(self) -> "Layout":
        """The same without skipping padding."""
        return Layout(self.ids, self.per_row)

    def expected(self) -> str:
        """What leading axes it expects, in words."""
        shape = tuple(self.ids.shape)
        if self.per_row:
            return f"{shape[0]} rows on axis 0"
        return f"tokens of shape {shape}" + (f" or (1, {shape[0]})" if len(shape) == 1 else "")

    def token_ids(self, leading: Shape) -> Tensor | None:
        """Trajectory of every position of these leading axes, in their shape; None: no fit."""
        if not leading:
            return None
        total = torch.Size(leading).numel()
        if not self.per_row:
            fits = leading in {self.ids.shape, (self.ids.numel(),), (1, *self.ids.shape)}
            return self.ids.reshape(leading) if fits else None
        rows = len(self.ids)
        if rows == 1:
            return self.ids.expand(leading)
        if leading[0] == rows:
            return self.ids.view(-1, *[1] * (len(leading) - 1)).expand(leading)
        if len(leading) == 1 and total in self._flat:
            return self.ids.repeat_interleave(total // rows)
        return None

    def says(self, ids: Tensor) -> bool:
        """Whether these trajectories are what the layout itself gives axes of their shape."""
        own = self.token_ids(tuple(ids.shape))
        if own is None or not torch.equal(own, ids.cpu()):
            return False
        if self.per_row and ids.ndim > 1:
            self._flat.add(ids.numel())
        return True

    def resolve(self, leading: Shape, device: torch.device) -> Segments | None:
        """Segments of an input with these leading axes, None if it is none of this layout's."""
        if self.per_row and len(leading) > 1 and leading[0] == len(self.ids):
            self._flat.add(math.prod(leading))
        elif self.per_row and leading and math.prod(leading) not in {len(self.ids), *self._flat}:
            return self._made(leading, device)
        known = self._known.get((leading, device))
        if known is None:
            known = self._made(leading, device)
            if known is not None:
                self._known[leading, device] = known
        return known

    def _made(self, leading: Shape, device: torch.device) -> Segments | None:
        ids = self.token_ids(leading)
        if ids is None:
            return None
        if self.per_row and self.mask is None and len(self.ids) and self._rises:
            return Segments.even(self.ids.to(device), ids.numel() // len(self.ids))
        ids = ids.reshape(-1).to(device)
        segments = Segments.of(ids)
        if self.mask is not None and self.mask.numel() == len(ids):
            valid = self.mask.reshape(-1).to(device)
            if not bool(valid.all()):
                segments.trimmed = Segments.of(torch.where(valid, ids, NOBODY))
        return segments


def batch_rows(trajectories: int | Tensor, mask: Tensor | None = None) -> Layout:
    """Axis 0 is the row; ``trajectories`` is their number, or (rows,) the trajectory of each row.

    ``mask`` (rows, time), true on real tokens (an attention mask), saves the work on padding: a
    padded position is skipped where its output gradient is verified to be 0, else it counts to its
    row. Raises `GradNormError` for anything but whole numbers from 0.
    """
    owner = torch.arange(trajectories) if isinstance(trajectories, int) else _whole(trajectories, 0)
    if owner.ndim != 1:
        raise GradNormError(
            f"trajectories must be a number or of shape (rows,), got {tuple(owner.shape)}"
        )
    if mask is not None:
        mask = mask.detach().bool().cpu().clone()
        if mask.ndim != 2 or len(mask) != len(owner):
            raise GradNormError(
                f"mask must have shape ({len(owner)}, time), got {tuple(mask.shape)}"
            )
    return Layout(owner, True, mask)


def segment_ids(ids: Tensor) -> Layout:
    """Trajectory of every token of packed rows, (rows, time) or (tokens,); -1 on padding.

    Padding must carry no gradient: this is verified at every layer, and refused otherwise.
    """
    ids = _whole(ids, NOBODY)
    if ids.ndim not in (1, 2):
        raise GradNormError(
            f"segment ids must be (tokens,) or (rows, time), got {tuple(ids.shape)}"
        )
    return Layout(ids, False)


def packed(cu_seqlens: Tensor | Sequence[int], trajectories: Tensor | None = None) -> Layout:
    """One packed row: trajectory k is tokens ``cu_seqlens[k]:cu_seqlens[k + 1]``.

    ``trajectories`` (segments,) gives their numbers where they are not 0, 1, 2, ...: segments of
    one trajectory are added before the square.
    """
    bounds = torch.as_tensor(cu_seqlens).detach().cpu().long()
    lengths = bounds.diff()
    if bounds.ndim != 1 or len(bounds) < 2 or int(bounds[0]) != 0 or bool((lengths < 0).any()):
        raise GradNormError("cu_seqlens must be one axis that starts at 0 and does not fall")
    owner = torch.arange(len(lengths)) if trajectories is None else _whole(trajectories, 0)
    if owner.shape != lengths.shape:
        raise GradNormError(
            f"{len(lengths)} packed segments, but trajectories of shape {tuple(owner.shape)}"
        )
    return Layout(owner.repeat_interleave(lengths), False)


def as_layout(trajectories: "int | Tensor | Layout") -> Layout:
    """A layout as it is; a number or row map as `batch_rows`."""
    if isinstance(trajectories, bool) or not isinstance(trajectories, (int, Tensor, Layout)):
        raise GradNormError(
            "a part of a step is a number of rows, a (rows,) tensor or a layout, got "
            f"{type(trajectories).__name__}"
        )
    if isinstance(trajectories, int) and trajectories < 0:
        raise GradNormError(f"a step needs a number of rows of at least 0, got {trajectories}")
    return trajectories if isinstance(trajectories, Layout) else batch_rows(trajectories)


def _whole(ids: Tensor, lowest: int) -> Tensor:
    ids = ids.detach().cpu()
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise GradNormError(f"trajectories must be whole numbers, got {ids.dtype}")
    if ids.numel() and int(ids.min()) < lowest:
        raise GradNormError(
            f"trajectories are numbered from 0, got {int(ids.min())}"
            + (" (-1 marks padding)" if lowest else "")
        )
    return ids.long().clone()
