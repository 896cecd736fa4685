"""`Spans`: whole gradients of trajectories that are known only when the last part of a step is.

Each has a buffer of every parameter's size: `mmhealth.gradnorm.meter` bounds them.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Handle, Target


class Spans:
    """Buffers of the trajectories that span parts."""

    def __init__(self, trajectories: Iterable[int]) -> None:
        self._slots = {i: slot for slot, i in enumerate(sorted(trajectories))}
        self._buffers: dict[str, tuple[Target, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, trajectory: object) -> bool:
        return trajectory in self._slots

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def anew(self) -> "Spans":
        """Empty buffers of the same trajectories."""
        return Spans(self._slots)

    def of(self, target: Target, trajectory: int) -> Tensor:
        """The gradient of one target so far, to add to."""
        return self._buffer(target)[self._slots[trajectory]]

    def add_all(self, handle: Handle, members: list[int], gradients: Tensor) -> bool:
        """Add (members, ...) gradients at once, if all of the members span parts; whether so."""
        slots = [self._slots.get(i, -1) for i in members]
        if -1 in slots:
            return False
        parts = torch.stack([handle.back(g) for g in gradients]) if handle.turns else gradients
        buffer = self._buffer(handle.target)
        buffer.index_add_(0, torch.tensor(slots, device=buffer.device), parts.to(buffer.dtype))
        return True

    def emptied(self) -> Iterator[tuple[Target, Tensor, Tensor]]:
        """Each target with the (slots,) trajectories and their (slots, ...) whole gradients."""
        for target, buffer in self._buffers.values():
            yield target, torch.tensor(list(self._slots), device=buffer.device), buffer
        self._buffers.clear()

    def _buffer(self, target: Target) -> Tensor:
        if target.name not in self._buffers:
            shape = (len(self._slots), *target.shape)
            dtype = torch.promote_types(target.parameter.dtype, torch.float32)
            buffer = torch.zeros(shape, dtype=dtype, device=target.parameter.device)
            self._buffers[target.name] = target, buffer
        return self._buffers[target.name][1]
