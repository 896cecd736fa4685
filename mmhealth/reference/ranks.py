"""One rank among several: what the ranks must agree on goes through here (torch.distributed)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@contextmanager
def joined() -> Iterator["Ranks"]:
    """The group that torchrun started this process in, for as long as the context is open."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if launched:
        dist.init_process_group("gloo")
    try:
        yield Ranks()
    finally:
        if launched:
            dist.destroy_process_group()


class Ranks:
    """The process group, or a single process that is its own group.

    Everything that reaches a decision (rewards, spreads, alerts) is gathered in rank order, so that
    all ranks compute the same numbers and no state has to be sent around.
    """

    def __init__(self) -> None:
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0

    def gather(self, value: T) -> list[T]:
        """What every rank has, in rank order."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def whole(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all ranks, and where this rank's lie among them."""
        parts = self.gather(rows)
        start = sum(len(part) for part in parts[: self.rank])
        return torch.cat(parts), slice(start, start + len(rows))

    def agree(self, value: T) -> T:
        """What rank 0 has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of all ranks up, in place."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
