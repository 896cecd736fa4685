"""A bounded reserve of near misses for every prompt, from which outcome contrast can be restored.

A near miss is a trajectory that failed narrowly or succeeded narrowly: the order of its decisions
near the boundary is what a hard negative does not hold. Both sides are kept apart, so that a group
in which all succeed can be given failures and a group in which all fail successes.

Cost: the stored arrays (`NearMissReserve.nbytes`; ``max_bytes`` bounds them) and a constant
overhead an item. Bias: what is injected was selected for its outcome, and by a policy of the past.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Side = Literal["failed", "succeeded"]
Item = Mapping[str, npt.NDArray[Any]]


def near_miss_side(score: float, need: float, *, below: float = 2, above: float = 1) -> Side | None:
    """Side on which a score is a near miss of ``need``; None for every other score.

    ``need - below <= score < need`` failed narrowly, ``need <= score <= need + above`` succeeded
    narrowly.
    """
    if need - below <= score < need:
        return "failed"
    if need <= score <= need + above:
        return "succeeded"
    return None


class NearMissReserve:
    """Per prompt and side, the ``capacity`` newest near misses (first in, first out).

    An item is a mapping of names to NumPy arrays: whatever the trainer needs to use the trajectory
    again. Arrays are copied. The reserve draws nothing at random. With ``max_bytes`` the arrays of
    all prompts together never take more: the oldest item, of whatever prompt and side, makes room.
    Raises ValueError unless both bounds are at least 1.
    """

    def __init__(self, capacity: int = 8, max_bytes: int | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}; None is no bound")
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._clear()

    def add(self, prompt: int, side: Side, item: Item) -> bool:
        """Store a near miss; the oldest of its prompt and side makes room.

        False, and nothing changes, when the item alone is larger than ``max_bytes``.
        """
        stored = {name: np.array(value) for name, value in item.items()}
        size = _size(stored)
        if self.max_bytes is not None and size > self.max_bytes:
            return False
        queue = self._queues.get((prompt, side))
        if queue and len(queue) == self.capacity:
            self._drop(queue[0])
        self._queues.setdefault((prompt, side), deque()).append(self._next)
        self._items[self._next] = (prompt, side, stored)
        self._next += 1
        self._nbytes += size
        while self.max_bytes is not None and self._nbytes > self.max_bytes:
            self._drop(next(iter(self._items)))
        return True

    def take(self, prompt: int, side: Side, count: int) -> list[Item]:
        """The newest ``count`` near misses or fewer, newest first; they stay in the reserve."""
        queue = self._queues.get((prompt, side), deque())
        newest = list(reversed(queue))[:count]
        return [self._items[number][2] for number in newest]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """Bytes held by the stored arrays."""
        return self._nbytes

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain containers and NumPy arrays, items from old to new."""
        items = [
            {"prompt": prompt, "side": side, "arrays": dict(arrays)}
            for prompt, side, arrays in self._items.values()
        ]
        return {"capacity": self.capacity, "max_bytes": self.max_bytes, "items": items}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace bounds and content by what `state_dict` gave (arrays may have become tensors)."""
        self.capacity = int(state["capacity"])
        self.max_bytes = None if state["max_bytes"] is None else int(state["max_bytes"])
        self._clear()
        items: Sequence[Mapping[str, Any]] = state["items"]
        for item in items:
            arrays = {name: np.asarray(value) for name, value in item["arrays"].items()}
            self.add(int(item["prompt"]), item["side"], arrays)

    def _clear(self) -> None:
        self._items: OrderedDict[int, tuple[int, Side, dict[str, npt.NDArray[Any]]]] = OrderedDict()
        self._queues: dict[tuple[int, Side], deque[int]] = {}
        self._nbytes = 0
        self._next = 0

    def _drop(self, number: int) -> None:
        """Remove an item, which is the oldest of its prompt and side."""
        prompt, side, arrays = self._items.pop(number)
        self._nbytes -= _size(arrays)
        queue = self._queues[prompt, side]
        queue.popleft()
        if not queue:
            del self._queues[prompt, side]


def _size(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays.values())
