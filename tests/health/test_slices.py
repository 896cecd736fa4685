import math

import numpy as np
import polars as pl
import pytest

from mmhealth.health.slices import cut


def labels(values, name="x", **more):
    """The slice of each row, by its label."""
    frame = pl.DataFrame({"step": [0] * len(values), name: values} | more)
    [slicing], _ = cut(frame, [name])
    return [slicing.labels[code] for code in slicing.codes]


def why_not(values, name="x", **more):
    frame = pl.DataFrame({"step": [0] * len(values), name: values} | more)
    slicings, skipped = cut(frame, [name])
    assert not slicings
    return skipped[name]


def test_texts_and_flags_are_cut_by_value_and_nulls_are_a_slice_of_their_own():
    assert labels(["b", None, "a", "b"]) == ["b", "(none)", "a", "b"]
    assert labels([True, False, None]) == ["true", "false", "(none)"]


@pytest.mark.parametrize("name", ["length", "token_count", "tool_calls"])
def test_lengths_are_cut_at_powers_of_two(name):
    lengths = [0, 1, 2, 3, 4, 7, 8, 511, 512, None]
    assert labels(lengths, name) == [
        "0", "1", "2 to 3", "2 to 3", "4 to 7", "4 to 7", "8 to 15", "256 to 511", "512 to 1023",
        "(none)",
    ]  # fmt: skip


def test_few_numbers_are_cut_by_value():
    assert labels([1, 2, 1]) == ["1", "2", "1"]
    assert labels([0.1, 0.5, math.nan, None]) == ["0.1", "0.5", "(NaN)", "(none)"]
    assert labels(pl.Series([0.1, 0.2, 0.1], dtype=pl.Float32)) == ["0.1", "0.2", "0.1"]


def test_many_numbers_are_cut_at_their_quartiles():
    values = [*np.arange(100.0), math.inf, -math.inf, math.nan, None]
    found = labels(np.array(values, object).tolist())
    assert found[:25] == ["up to 24"] * 25
    assert found[25:50] == ["above 24 to 49"] * 25
    assert found[75:100] == ["above 74"] * 25
    assert found[100:] == ["above 74", "up to 24", "(NaN)", "(none)"]


def test_many_numbers_of_which_most_are_the_largest():
    values = [*np.arange(20.0), *[50.0] * 100]
    assert labels(values) == ["up to 19"] * 20 + ["above 19"] * 100


def test_ids_have_no_slices_but_groups_do():
    assert why_not([7, 8, 9]) == "differs in every row, an id"
    assert why_not(["a", "b", "c"]) == "differs in every row, an id"
    assert why_not([0, 0, 1], "trajectory_id") == "names single trajectories"
    assert labels([4, 5, 6], "group_id") == ["4", "5", "6"]
    assert labels([0.5, 1.5, 2.5]) == ["0.5", "1.5", "2.5"]
    assert labels([100, 200, 300], "turns") == ["100", "200", "300"]


def test_ids_that_are_used_again_in_each_step_are_ids():
    again = {"step": [0] * 3 + [1] * 3, "place": [0, 1, 2] * 2, "group_id": [0, 0, 1] * 2}
    slicings, skipped = cut(pl.DataFrame(again))
    assert [slicing.column for slicing in slicings] == ["group_id", "step"]
    assert slicings[0].labels == ["0, step 0", "0, step 1", "1, step 0", "1, step 1"]
    assert "place" in skipped


def test_columns_without_slices_say_why():
    assert why_not(["a", "a"]) == "one slice: a"
    assert why_not([None, None]) == "one slice: (none)"
    assert why_not([[1], [2]]) == "its values are of type List(Int64)"
    assert cut(pl.DataFrame({"step": [0, 0]}), ["y"])[1] == {"y": "not logged"}


def test_rows_of_all_columns_but_the_groups_themselves_know_their_group():
    frame = pl.DataFrame(
        {"step": [0] * 4, "group_id": [5, 5, 6, 6], "source": list("aabb"), "turns": [1, 2, 1, 2]}
    )
    slicings = {slicing.column: slicing for slicing in cut(frame)[0]}
    assert slicings["source"].groups.tolist() == [0, 0, 1, 1]
    assert slicings["turns"].groups.tolist() == [0, 0, 1, 1]
    assert slicings["group_id"].groups is None
    no_groups, _ = cut(frame.drop("group_id"))
    assert all(slicing.groups is None for slicing in no_groups)


def test_the_order_of_rows_changes_no_slice():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"step": [0] * 200, "x": rng.normal(size=200), "y": rng.integers(9, size=200)}
    )
    order = rng.permutation(200)
    for plain, shuffled in zip(cut(frame)[0], cut(frame[order])[0], strict=True):
        assert plain.labels == shuffled.labels
        assert (plain.codes[order] == shuffled.codes).all()
