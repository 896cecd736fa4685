"""A set of numbers against Python's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.runlog.intervals import Numbers

numbers = st.sets(st.integers(0, 40), max_size=20).map(sorted)


@given(st.lists(numbers, max_size=6), st.lists(st.integers(-3, 45)))
def test_numbers_are_a_set(parts: list[list[int]], asked: list[int]) -> None:
    kept, expected = Numbers(), set[int]()
    for part in parts:
        new = kept.add(np.array(part, np.int64))
        assert new.tolist() == sorted(set(part) - expected)
        expected |= set(part)
    assert kept.array.tolist() == sorted(expected)
    assert len(kept) == len(expected)
    assert kept.last == max(expected, default=-1)
    there = [number in expected for number in asked]
    assert [number in kept for number in asked] == there
    assert kept.holds(np.array(asked, np.int64)).tolist() == there
