"""Reads the next items while the one before is worked on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")

_AHEAD = 2


def read_ahead(read: Callable[[Key], Item], keys: Sequence[Key]) -> Iterator[Item]:
    """What ``read`` gives for each key, in order, a few ahead of who asks.

    ``read`` runs in one other thread, one key at a time; nothing else may use what it uses until
    the iterator is exhausted or closed. What it raises is raised here. It pays where ``read``
    waits; where it decodes, the two threads stand in each other's way.
    """
    flight: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1, "mmhealth-read") as thread:
        for key in keys:
            flight.append(thread.submit(read, key))
            if len(flight) > _AHEAD:
                yield flight.popleft().result()
        while flight:
            yield flight.popleft().result()
