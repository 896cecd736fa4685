"""Reads the next items while the one before is worked on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")

_AHEAD = 2


_WORTH_ROWS = 8_192
"""Rows of an item from which on another thread gains more than it costs to hand over."""


def read_ahead(
    read: Callable[[Key], Item], keys: Sequence[Key], rows: Callable[[Item], int]
) -> Iterator[Item]:
    """What ``read`` gives for each key, in order, a few ahead of who asks where items are big, as
    the ``rows`` of the first one tell.

    ``read`` runs in one other thread, one key at a time; nothing else may use what it uses until
    the iterator is exhausted or closed. What it raises is raised here.
    """
    for first in map(read, keys[:1]):
        yield first
        if len(keys) <= _AHEAD or rows(first) < _WORTH_ROWS:
            yield from map(read, keys[1:])
            return
    flight: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1, "mmhealth-read") as thread:
        for key in keys[1:]:
            flight.append(thread.submit(read, key))
            if len(flight) > _AHEAD:
                yield flight.popleft().result()
        while flight:
            yield flight.popleft().result()
