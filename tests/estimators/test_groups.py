from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import (
    GroupShares,
    group_codes,
    group_outcome,
    group_shares,
    order_in_groups,
)

FAST = settings(deadline=None, derandomize=True, max_examples=60)
ROWS = st.lists(st.tuples(st.integers(-3, 5), st.booleans()), min_size=1, max_size=40)


def slow_outcome(ids, success):
    groups = defaultdict(list)
    for key, won in zip(ids, success, strict=True):
        groups[key].append(won)
    return {key: 1 if all(won) else 0 if any(won) else -1 for key, won in groups.items()}


def test_closed_form():
    ids = ["a", "b", "c", "a", "b", "c", "d", "d"]
    success = [1, 0, 1, 1, 0, 0, 1, 0]
    assert group_shares(ids, success) == GroupShares(4, 0.25, 0.25, 0.5)
    outcome = group_outcome(ids, success)
    assert outcome.dtype == np.int8
    assert outcome.tolist() == [1, -1, 0, 1, -1, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64, str, object, "S8", "T", bool])
def test_ids_of_any_dtype(dtype):
    ids = np.array([0, 1, 0, 1]).astype(dtype)
    assert group_shares(ids, [True, False, True, True]) == GroupShares(2, 0.5, 0.0, 0.5)


def test_object_ids_as_a_data_frame_gives_them():
    ids = np.array(["p2", "p1", "p2"], dtype=object)
    assert group_outcome(ids, np.array([True, False, True])).tolist() == [1, -1, 1]


@FAST
@given(ROWS)
def test_agrees_with_plain_loops(rows):
    ids, success = (list(column) for column in zip(*rows, strict=True))
    expected = slow_outcome(ids, success)
    assert group_outcome(ids, success).tolist() == [expected[key] for key in ids]
    shares = group_shares(ids, success)
    outcomes = list(expected.values())
    assert shares.groups == len(outcomes)
    assert shares.solved == outcomes.count(1) / len(outcomes)
    assert shares.failed == outcomes.count(-1) / len(outcomes)
    assert shares.mixed == outcomes.count(0) / len(outcomes)
    assert shares.solved + shares.failed + shares.mixed == pytest.approx(1.0)


@FAST
@given(ROWS, st.randoms(use_true_random=False))
def test_row_order_and_names_change_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    shares = group_shares(*zip(*rows, strict=True))
    assert group_shares(*zip(*shuffled, strict=True)) == shares
    assert group_shares([f"g{key}" for key, _ in rows], [won for _, won in rows]) == shares


@pytest.mark.parametrize(
    ("ids", "success", "named"),
    [
        ([], [], "success"),
        ([1], [0, 1], "group_ids and success"),
        ([[1]], [[1]], "group_ids"),
        ([1], [0.5], "success"),
        ([1], [float("nan")], "success"),
        ([1.0, float("nan")], [0, 1], "group_ids"),
        ([1, None], [0, 1], "group_ids"),
        (np.array(["a", 1], dtype=object), [0, 1], "group_ids"),
        (np.array(["a", float("nan")], dtype=object), [0, 1], "group_ids"),
    ],
)
def test_what_makes_no_groups_is_refused(ids, success, named):
    with pytest.raises(EstimatorInputError, match=named):
        group_shares(ids, success)
    with pytest.raises(EstimatorInputError, match=named):
        group_outcome(ids, success)


@FAST
@given(st.integers(0, 999), st.integers(1, 40), st.booleans())
def test_order_in_groups_is_by_group_then_by_the_keys(seed, rows, tied):
    rng = np.random.default_rng(seed)
    codes = group_codes(rng.integers(0, 5, rows))
    first = rng.integers(0, 3, rows) / 4 if tied else rng.normal(size=rows)
    second = rng.normal(size=rows)
    order = order_in_groups(codes, first, second)
    assert sorted(order.tolist()) == list(range(rows))
    listed = [(codes[i], first[i], second[i]) for i in order]
    assert listed == sorted(listed)


@FAST
@given(st.lists(st.integers(-3, 3), max_size=12), st.booleans())
def test_codes_are_those_of_the_sorted_ids(ids, ascending):
    ids = sorted(ids) if ascending else ids
    names = sorted(set(ids))
    assert group_codes(np.array(ids, int)).tolist() == [names.index(each) for each in ids]
