"""A bounded reserve of near misses for every prompt, from which outcome contrast can be restored.

A near miss is a trajectory that failed narrowly or succeeded narrowly: the order of its decisions
near the boundary is what a hard negative does not hold. Both sides are kept apart, so that a group
in which all succeed can be given failures and a group in which all fail successes.
"""

from collections import deque
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
    again. Arrays are copied. The reserve draws nothing at random.
    """

    def __init__(self, capacity: int = 8) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._items: dict[tuple[int, Side], deque[dict[str, npt.NDArray[Any]]]] = {}

    def add(self, prompt: int, side: Side, item: Item) -> None:
        """Store a near miss; the oldest of its prompt and side makes room."""
        queue = self._items.setdefault((prompt, side), deque(maxlen=self.capacity))
        queue.append({name: np.array(value) for name, value in item.items()})

    def take(self, prompt: int, side: Side, count: int) -> list[Item]:
        """The newest ``count`` near misses or fewer, newest first; they stay in the reserve."""
        queue = self._items.get((prompt, side), deque())
        return list(reversed(queue))[:count]

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._items.values())

    @property
    def nbytes(self) -> int:
        """Bytes held by the stored arrays."""
        return sum(
            array.nbytes
            for queue in self._items.values()
            for item in queue
            for array in item.values()
        )

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain containers and NumPy arrays."""
        entries = [
            {"prompt": prompt, "side": side, "items": [dict(item) for item in queue]}
            for (prompt, side), queue in sorted(self._items.items())
        ]
        return {"capacity": self.capacity, "entries": entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the content by what `state_dict` gave (arrays may have become tensors)."""
        self.capacity = int(state["capacity"])
        self._items = {}
        entries: Sequence[Mapping[str, Any]] = state["entries"]
        for entry in entries:
            for item in entry["items"]:
                arrays = {name: np.asarray(value) for name, value in item.items()}
                self.add(int(entry["prompt"]), entry["side"], arrays)
