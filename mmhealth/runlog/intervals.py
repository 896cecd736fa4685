"""A set of numbers most of which follow one another."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class Numbers:
    """Whole numbers, kept as the stretches they make: memory grows with gaps, not with numbers."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        """Of each stretch, one past its last number."""

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._ends[place]

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    @property
    def last(self) -> int:
        """The largest; -1 where there is none."""
        return self._ends[-1] - 1 if self._ends else -1

    @property
    def array(self) -> IntArray:
        """All of them, ascending."""
        stretches = zip(self._starts, self._ends, strict=True)
        parts = [np.arange(start, end, dtype=np.int64) for start, end in stretches]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def holds(self, numbers: IntArray) -> BoolArray:
        """Which of these are in the set."""
        if not self._starts:
            return np.zeros(len(numbers), np.bool_)
        place = np.searchsorted(self._starts, numbers, side="right") - 1
        within: BoolArray = numbers < np.array(self._ends)[place]
        return within & (place >= 0)

    def add(self, numbers: IntArray) -> IntArray:
        """Take in numbers, ascending; return those that were not there."""
        if not len(numbers):
            return numbers
        behind = int(numbers[0]) > self.last
        new = numbers if behind else numbers[~self.holds(numbers)]
        for first, end in _stretches(new):
            self._add_stretch(first, end)
        return new

    def _add_stretch(self, start: int, end: int) -> None:
        """Take in numbers that follow one another and of which none is there."""
        place = bisect_right(self._starts, start)
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        for left in (place, place - 1):
            if 0 <= left < len(self._starts) - 1 and self._ends[left] == self._starts[left + 1]:
                self._ends[left] = self._ends.pop(left + 1)
                del self._starts[left + 1]


def _stretches(numbers: IntArray) -> Iterator[tuple[int, int]]:
    """Of numbers, ascending: the first of each stretch, and one past its last."""
    if not len(numbers):
        return
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1:
        yield first, last + 1
        return
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    for part in np.split(numbers, cuts):
        yield int(part[0]), int(part[-1]) + 1


def distinct(numbers: IntArray) -> IntArray:
    """Numbers, ascending, each once: `np.unique`, which is slow where most of them differ."""
    ordered = np.sort(numbers)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]
