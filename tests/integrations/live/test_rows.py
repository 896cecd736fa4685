"""Token tensors become rows; checked against sums written out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import RecordError
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.live.rows import (
    NO_SAMPLER,
    TAKEN_OVER,
    Columns,
    drop_trivial,
    row_sums,
    rows_of,
)

MASK = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]])
OLD = torch.tensor([[-1.0, -0.5, -9.0, -0.25], [-2.0, -9.0, -9.0, -9.0]], dtype=torch.float64)
SAMPLER = torch.tensor([[-1.5, -0.5, 7.0, -0.5], [-1.0, 7.0, 7.0, 7.0]], dtype=torch.float64)


def test_sums_are_over_the_policys_own_tokens():
    problems = Problems()
    columns = Columns(
        own=MASK,
        old=OLD,
        sampler=SAMPLER,
        reference=OLD - math.log(2),
        entropy=torch.full((2, 4), 0.5),
        advantages=torch.tensor([[2.0] * 4, [-1.0] * 4]),
    )
    first, second = rows_of(columns, [{"reward": 1.0}, {"reward": 0.0}], problems)
    assert first.values["log_weight"] == first.values["log_weight_mismatch"] == 0.75
    assert first.values["token_logsum_w"] == pytest.approx(math.log(math.e**0.5 + 1 + math.e**0.25))
    assert first.values["log_ratio_max"] == 0.5
    assert (first.values["length"], first.values["turns"]) == (3, 2)
    assert first.values["entropy"] == 0.5
    assert first.values["kl_ref"] == pytest.approx(0.5 - 1 + math.log(2))
    assert first.values["token_count"] == 3
    assert first.values["advantage"] == 2.0
    assert first.log_ratios.tolist() == [0.5, 0.0, 0.25]
    assert first.after_tool.tolist() == [False, False, True]
    assert second.values["log_weight"] == -1.0
    assert second.values["reward"] == 0.0
    assert not problems.notices


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=6), min_size=1, max_size=4))
def test_padded_and_nested_columns_give_the_same_rows(ratios):
    longest = max(map(len, ratios))
    rows = [torch.tensor(row, dtype=torch.float64) for row in ratios]
    ones = [torch.ones(len(row)) for row in rows]

    def padded(of, fill):
        return torch.stack(
            [torch.nn.functional.pad(row, (0, longest - len(row)), value=fill) for row in of]
        )

    def nested(of):
        return torch.nested.as_nested_tensor(of, layout=torch.jagged)

    zeros = [torch.zeros(len(row), dtype=torch.float64) for row in rows]
    known = [{} for _ in rows]
    dense = rows_of(
        Columns(padded(ones, 0), old=padded(rows, 5), sampler=padded(zeros, 3)), known, Problems()
    )
    ragged = rows_of(
        Columns(nested(ones), old=nested(rows), sampler=nested(zeros)), known, Problems()
    )
    assert [row.values for row in dense] == [row.values for row in ragged]
    assert [row.values["log_weight"] for row in ragged] == pytest.approx(
        [math.fsum(row) for row in ratios], abs=1e-12
    )


def test_rejected_tokens_stay_in_the_weight_and_leave_the_advantage():
    kept = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]])
    columns = Columns(
        own=MASK, counted=kept, old=OLD, sampler=SAMPLER, advantages=torch.full((2, 4), 3.0)
    )
    first, second = rows_of(columns, [{}, {}], Problems())
    assert first.values["log_weight"] == 0.75
    assert first.values["advantage"] == 3.0
    assert "role" not in first.values
    assert second.values["role"] == "filtered"
    assert second.values["advantage"] is None
    assert second.log_ratios.tolist() == [-1.0]


def test_no_token_of_its_own_leaves_length_and_weight_unknown():
    columns = Columns(own=torch.zeros(1, 3), old=OLD[:1, :3], sampler=SAMPLER[:1, :3])
    (row,) = rows_of(columns, [{}], Problems())
    assert row.values == {"role": "filtered"}


def test_without_a_samplers_log_probabilities_there_is_no_weight():
    problems = Problems()
    rows = rows_of(Columns(own=MASK, old=OLD), [{}, {}], problems)
    assert all("log_weight" not in row.values and row.log_ratios is None for row in rows)
    assert problems.notices == {NO_SAMPLER: 2}


def test_ratios_that_are_all_one_are_told_and_not_recorded():
    problems = Problems()
    rows = rows_of(Columns(own=MASK, old=OLD, sampler=OLD), [{}, {}], problems)
    drop_trivial(rows, problems)
    assert [row.values for row in rows] == [{"length": 3, "turns": 2}, {"length": 1, "turns": 1}]
    assert rows[0].log_ratios is None
    assert problems.notices == {TAKEN_OVER: 2}


def test_one_ratio_that_differs_keeps_the_whole_step():
    nearly = OLD.clone()
    nearly[1, 0] += 1e-9
    rows = rows_of(Columns(own=MASK, old=OLD, sampler=nearly), [{}, {}], Problems())
    drop_trivial(rows, problems := Problems())
    assert rows[0].values["log_weight"] == 0.0
    assert not problems.notices


def test_values_that_are_not_finite_are_kept_as_they_are():
    sampler = SAMPLER.clone()
    sampler[1, 0] = -math.inf
    rows = rows_of(Columns(own=MASK, old=OLD, sampler=sampler), [{}, {}], Problems())
    assert rows[1].values["log_weight"] == math.inf
    assert math.isnan(rows[1].values["token_logsum_w"])


def test_bfloat16_is_summed_in_float64():
    ones = torch.ones(1, 4000)
    old = torch.full((1, 4000), -0.5, dtype=torch.bfloat16)
    sampler = torch.full((1, 4000), -0.50390625, dtype=torch.bfloat16)
    (row,) = rows_of(Columns(ones, old=old, sampler=sampler), [{}], Problems())
    assert row.values["log_weight"] == pytest.approx(4000 * 0.00390625, rel=1e-12)


@pytest.mark.parametrize("wrong", [SAMPLER[:1], SAMPLER[:, :3]])
def test_columns_that_do_not_fit_are_named(wrong):
    with pytest.raises(RecordError, match="sampler has other trajectories or tokens"):
        rows_of(Columns(own=MASK, old=OLD, sampler=wrong), [{}, {}], Problems())
    with pytest.raises(RecordError, match="2 trajectories with values for 1"):
        rows_of(Columns(own=MASK), [{}], Problems())


def test_rewards_at_single_tokens_are_summed():
    assert row_sums(torch.tensor([[0.0, 0.0, 1.5], [0.0, -2.0, 0.0]])) == [1.5, -2.0]
    assert np.isnan(row_sums(torch.tensor([[math.nan, 1.0]]))[0])
