import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import NearMissReserve, near_miss_side


def item(number: int) -> dict[str, np.ndarray]:
    return {"actions": np.full(10, number, np.int8), "log_prob": np.float32(-number)}


def numbers(reserve: NearMissReserve, prompt: int, side: str, count: int = 99) -> list[int]:
    return [int(got["actions"][0]) for got in reserve.take(prompt, side, count)]


@pytest.mark.parametrize(
    ("score", "side"),
    [(2, None), (3, "failed"), (4, "failed"), (5, "succeeded"), (6, "succeeded"), (7, None)],
)
def test_a_near_miss_lies_at_the_boundary(score, side):
    assert near_miss_side(score, 5, below=2, above=1) == side


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["failed", "succeeded"]))),
    st.integers(1, 4),
)
def test_keeps_the_newest_of_each_prompt_and_side(additions, capacity):
    reserve = NearMissReserve(capacity)
    kept: dict[tuple[int, str], list[int]] = {}
    for number, (prompt, side) in enumerate(additions):
        reserve.add(prompt, side, item(number % 100))
        kept.setdefault((prompt, side), []).insert(0, number % 100)
    for (prompt, side), newest_first in kept.items():
        assert numbers(reserve, prompt, side) == newest_first[:capacity]
    assert len(reserve) == sum(min(len(all_), capacity) for all_ in kept.values())
    assert reserve.nbytes == 14 * len(reserve)


def test_taking_leaves_the_reserve_as_it_is():
    reserve = NearMissReserve(4)
    for number in range(3):
        reserve.add(7, "failed", item(number))
    assert numbers(reserve, 7, "failed", 2) == [2, 1]
    assert numbers(reserve, 7, "failed", 9) == [2, 1, 0]
    assert numbers(reserve, 7, "succeeded") == []
    assert numbers(reserve, 8, "failed") == []


def test_stores_copies():
    actions = np.zeros(3, np.int8)
    reserve = NearMissReserve(2)
    reserve.add(0, "failed", {"actions": actions})
    actions[:] = 9
    assert numbers(reserve, 0, "failed") == [0]


def test_state_round_trips():
    reserve = NearMissReserve(2)
    for number in range(5):
        reserve.add(number % 2, "succeeded", item(number))
    reserve.add(1, "failed", item(9))
    other = NearMissReserve(7)
    other.load_state_dict(reserve.state_dict())
    for each in (reserve, other):
        each.add(1, "succeeded", item(11))
    for prompt, side in ((0, "succeeded"), (1, "succeeded"), (1, "failed")):
        assert numbers(other, prompt, side) == numbers(reserve, prompt, side)
    assert (other.nbytes, other.capacity) == (reserve.nbytes, 2)
    assert other.take(1, "failed", 1)[0]["log_prob"].dtype == np.float32


def test_refuses_a_reserve_without_room():
    with pytest.raises(ValueError, match="capacity"):
        NearMissReserve(0)


def test_needs_no_torch():
    code = "import sys, mmhealth.interventions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ITEM = 14
"""Bytes of an item."""


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["failed", "succeeded"]))),
    st.integers(1, 3),
    st.integers(1, 6),
)
def test_the_oldest_of_all_makes_room_within_the_bound(additions, capacity, items):
    reserve = NearMissReserve(capacity, max_bytes=items * ITEM + 5)
    kept: list[tuple[int, str, int]] = []
    for number, (prompt, side) in enumerate(additions):
        assert reserve.add(prompt, side, item(number % 100))
        alike = [one for one in kept if one[:2] == (prompt, side)]
        if len(alike) == capacity:
            kept.remove(alike[0])
        kept = [*kept, (prompt, side, number % 100)][-items:]
        assert reserve.nbytes == len(reserve) * ITEM == len(kept) * ITEM
    for prompt in range(3):
        for side in ("failed", "succeeded"):
            newest_first = [n for p, s, n in reversed(kept) if (p, s) == (prompt, side)]
            assert numbers(reserve, prompt, side) == newest_first


def test_an_item_larger_than_the_bound_is_not_stored():
    reserve = NearMissReserve(2, max_bytes=20)
    assert reserve.add(0, "failed", item(1))
    assert not reserve.add(0, "failed", {"actions": np.zeros(21, np.int8)})
    assert numbers(reserve, 0, "failed") == [1]


def test_age_across_prompts_survives_a_checkpoint():
    reserve = NearMissReserve(2, max_bytes=3 * ITEM)
    for number, prompt in enumerate([2, 0, 1]):
        reserve.add(prompt, "failed", item(number))
    other = NearMissReserve()
    other.load_state_dict(reserve.state_dict())
    other.add(1, "failed", item(9))
    assert numbers(other, 2, "failed") == []
    assert numbers(other, 0, "failed") == [1]
    assert numbers(other, 1, "failed") == [9, 2]


def test_refuses_a_bound_of_nothing():
    with pytest.raises(ValueError, match="max_bytes"):
        NearMissReserve(1, max_bytes=0)
