"""A set of numbers most of which follow one another."""

from bisect import bisect_right


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

    def add(self, number: int) -> None:
        """Take in a number."""
        place = bisect_right(self._starts, number) - 1
        if place >= 0 and number < self._ends[place]:
            return
        if place >= 0 and number == self._ends[place]:
            self._ends[place] += 1
        else:
            place += 1
            self._starts.insert(place, number)
            self._ends.insert(place, number + 1)
        if place + 1 < len(self._starts) and self._starts[place + 1] == self._ends[place]:
            self._ends[place] = self._ends.pop(place + 1)
            del self._starts[place + 1]
