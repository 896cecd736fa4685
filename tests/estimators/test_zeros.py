"""Bounds of the population's ESS and Gini from rows that hold nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import ess, ess_interval_from_zeros, gini, gini_interval_from_zeros

FAST = settings(deadline=None, derandomize=True, max_examples=60)
BATCHES = st.tuples(st.integers(3, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0]),
        min_size=math.prod(shape),
        max_size=math.prod(shape),
    ).map(lambda rows: (np.array(rows), np.arange(len(rows)) // shape[1]))
)
"""Values of groups of one size, and the group of each."""


def logs(values):
    with np.errstate(divide="ignore"):
        return np.log(values)


@pytest.mark.parametrize(("groups", "level"), [(3, 0.9), (16, 0.9), (32, 0.5), (200, 0.99)])
def test_where_all_groups_are_dead_the_bound_has_a_closed_form(groups, level):
    ids = np.repeat(np.arange(groups), 4)
    found = ess_interval_from_zeros(np.full(4 * groups, -np.inf), ids, level=level)
    assert found.low == 0.0
    assert found.high == pytest.approx(1 - ((1 - level) / 2) ** (1 / groups))
    assert (found.n, found.groups, found.level, found.reliable) == (4 * groups, groups, level, True)
    of_gini = gini_interval_from_zeros(np.zeros(4 * groups), ids, level=level)
    assert (of_gini.low, of_gini.high) == (pytest.approx(1 - found.high), 1.0)


def test_where_every_group_holds_something_nothing_is_said():
    values, ids = np.tile([0.0, 1.0], 20), np.repeat(np.arange(20), 2)
    assert ess_interval_from_zeros(logs(values), ids).high == 1.0
    assert gini_interval_from_zeros(values, ids).low == 0.0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("groups", [8, 32])
def test_misses_stay_below_what_is_allowed_where_the_bound_is_tight(share, groups):
    """All rows of a live group are equal, so that the ESS fraction is the share of live groups."""
    rng, ids, draws = np.random.default_rng(7), np.repeat(np.arange(groups), 3), 400
    missed = 0
    for _ in range(draws):
        live = rng.random(groups) < share
        missed += ess_interval_from_zeros(logs(live[ids].astype(float)), ids).high < share
    # 5 % and three standard errors
    assert missed <= draws * 0.05 + 3 * math.sqrt(draws * 0.05 * 0.95)


@FAST
@given(BATCHES)
def test_the_batch_lies_within(batch):
    values, ids = batch
    n = len(values)
    assert ess(logs(values)) / n <= ess_interval_from_zeros(logs(values), ids).high + 1e-12
    if values.any():
        assert gini(values) >= gini_interval_from_zeros(values, ids).low - 1e-12


@FAST
@given(BATCHES, st.randoms(use_true_random=False), st.floats(1e-6, 1e6))
def test_neither_the_order_of_rows_nor_the_scale_matters(batch, random, scale):
    values, ids = batch
    order = list(range(len(values)))
    random.shuffle(order)
    found = ess_interval_from_zeros(logs(values), ids)
    assert ess_interval_from_zeros(logs(values[order] * scale), ids[order]) == found


def test_groups_of_different_size_have_no_such_bound():
    with pytest.raises(EstimatorInputError, match="groups of 1 to 2 rows"):
        ess_interval_from_zeros([0.0, 0.0, -np.inf], [0, 0, 1])
    with pytest.raises(EstimatorInputError, match="groups of 1 to 2 rows"):
        gini_interval_from_zeros([1.0, 1.0, 0.0], ["a", "a", "b"])


def test_input_that_is_no_sample_is_refused():
    with pytest.raises(EstimatorInputError, match="values"):
        gini_interval_from_zeros([1.0, -1.0, 0.0], [0, 1, 2])
    with pytest.raises(EstimatorInputError, match="rows and groups"):
        ess_interval_from_zeros([0.0, 0.0], [0, 1, 2])
    with pytest.raises(EstimatorInputError, match="confidence"):
        ess_interval_from_zeros([0.0, 0.0, 0.0], [0, 1, 2], level=1.0)
