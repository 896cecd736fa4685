import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import EssSums, ess, signal_log_weights

FAST = settings(deadline=None, derandomize=True, max_examples=60)
LOGS = st.lists(st.floats(-50, 50) | st.just(-math.inf), min_size=1, max_size=40)


def slow_ess(log_weights):
    with localcontext() as context:
        context.prec = 60
        weights = [Decimal(x).exp() for x in log_weights if x != -math.inf]
        if not weights:
            return 0.0
        return float(sum(weights) ** 2 / sum(w * w for w in weights))


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 4096])
@pytest.mark.parametrize("level", [0.0, -3.7, 1e4])
def test_uniform_weights_give_n(n, level):
    assert ess(np.full(n, level)) == n
    assert EssSums.from_log_weights(np.full(n, level)).fraction() == pytest.approx(1, rel=1e-11)


@pytest.mark.parametrize("n", [1, 5, 1000])
def test_one_survivor_gives_one(n):
    logs = np.full(n, -np.inf)
    logs[n // 2] = 3.0
    assert ess(logs) == 1.0
    assert EssSums.from_log_weights(logs).fraction() == pytest.approx(1 / n)


def test_two_weights_closed_form():
    assert ess(np.log([1.0, 3.0])) == pytest.approx(16 / 10, rel=1e-15)


def test_one_huge_weight_is_not_hidden():
    logs = np.zeros(1000)
    logs[0] = math.log(1000)
    assert ess(logs) / 1000 == pytest.approx(1999**2 / (999 + 1e6) / 1000)


def test_no_weight_at_all_is_zero():
    assert ess([-math.inf, -math.inf]) == 0.0
    assert EssSums.from_log_weights([-math.inf]).fraction() == 0.0


def test_log_normal_closed_form():
    z = ndtri((np.arange(100_000) + 0.5) / 100_000)
    for s in (0.3, 0.642, 1.0):
        assert ess(s * z) / z.size == pytest.approx(math.exp(-s * s), rel=5e-3)


@FAST
@given(LOGS)
def test_agrees_with_decimal_arithmetic(logs):
    assert ess(logs) == pytest.approx(slow_ess(logs), rel=1e-13)
    assert EssSums.from_log_weights(logs).ess == pytest.approx(slow_ess(logs), rel=1e-12)


@FAST
@given(LOGS, st.sampled_from([-1e4, 1e4, 0.1]))
def test_a_shift_changes_nothing(logs, shift):
    assert ess([x + shift for x in logs]) == pytest.approx(ess(logs), rel=1e-10)


@FAST
@given(st.lists(st.floats(allow_nan=False) | st.floats(-5, 5), min_size=1, max_size=30))
def test_bounds_for_any_log_weight(logs):
    logs = [x for x in logs if x != math.inf] or [0.0]
    value = ess(logs)
    assert value == 0.0 if max(logs) == -math.inf else 1.0 <= value <= len(logs)


@FAST
@given(LOGS, st.randoms(use_true_random=False))
def test_row_order_changes_no_bit(logs, random):
    shuffled = random.sample(logs, len(logs))
    assert ess(shuffled) == ess(logs)
    assert EssSums.from_log_weights(shuffled) == EssSums.from_log_weights(logs)


@FAST
@given(st.lists(LOGS, max_size=6), st.randoms(use_true_random=False))
def test_merged_parts_equal_the_whole(parts, random):
    whole = EssSums.from_log_weights([x for part in parts for x in part])
    sums = [EssSums.from_log_weights(part) for part in parts]
    merged = EssSums.merge(*sums)
    assert merged.count == whole.count
    assert merged.log_sum == pytest.approx(whole.log_sum, rel=1e-13, abs=1e-13)
    assert merged.log_sum_sq == pytest.approx(whole.log_sum_sq, rel=1e-13, abs=1e-13)
    assert EssSums.merge(*random.sample(sums, len(sums))) == merged
    assert EssSums.merge(merged, EssSums.from_log_weights([])) == merged


def test_parts_as_columns():
    parts = [EssSums.from_log_weights(np.linspace(0, k, 5 + k)) for k in range(4)]
    columns = EssSums.from_parts(
        np.array([p.count for p in parts]),
        np.array([p.log_sum for p in parts]),
        np.array([p.log_sum_sq for p in parts]),
    )
    assert columns == EssSums.merge(*parts)


def test_merging_is_not_averaging():
    healthy, dead = np.zeros(100), np.array([0.0] + [-50.0] * 99)
    merged = EssSums.merge(
        EssSums.from_log_weights(healthy), EssSums.from_log_weights(dead + 5)
    ).ess
    assert merged == pytest.approx(ess(np.concatenate([healthy, dead + 5])))
    assert merged < (ess(healthy) + ess(dead)) / 2


def test_fraction_of_a_nominal_batch():
    sums = EssSums.from_log_weights(np.zeros(32))
    assert sums.fraction(64) == pytest.approx(0.5)
    assert sums.fraction(16) == pytest.approx(2.0)
    with pytest.raises(EstimatorInputError, match="of"):
        sums.fraction(0)


def test_signal_is_weight_times_absolute_advantage():
    logs = signal_log_weights(np.log([1.0, 2.0, 5.0, 1.0]), [3.0, -1.5, 0.0, 3.0])
    assert logs == pytest.approx([math.log(3.0), math.log(3.0), -math.inf, math.log(3.0)])
    assert ess(logs) == pytest.approx(3.0)
    assert np.isneginf(signal_log_weights([-np.inf], [2.0])).all()


def test_signal_of_binary_rewards_is_four_p_q():
    # group-relative advantages r - p on policy: ESS/n = 4 p (1 - p)
    for solved in (2, 10, 16):
        reward = np.array([1.0] * solved + [0.0] * (20 - solved))
        p = solved / 20
        value = ess(signal_log_weights(np.zeros(20), reward - p)) / 20
        assert value == pytest.approx(4 * p * (1 - p))


@pytest.mark.parametrize(
    "bad", [[], [math.nan], [0.0, math.inf], [[0.0]], 1.0, ["a"], [None], [1j]]
)
def test_what_is_no_log_weight_is_refused(bad):
    with pytest.raises(EstimatorInputError, match="log_weights"):
        ess(bad)
    with pytest.raises(EstimatorInputError, match="log_weights"):
        signal_log_weights(bad, [1.0])


@pytest.mark.parametrize("advantages", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_what_is_no_advantage_is_refused(advantages):
    with pytest.raises(EstimatorInputError, match="advantages"):
        signal_log_weights([0.0, 0.0], advantages)


@pytest.mark.parametrize(
    "sums",
    [
        (-1, 0.0, 0.0),
        (2, math.nan, 0.0),
        (2, math.inf, 0.0),
        (2, 0.0, -math.inf),
        (0, 0.0, 0.0),
        (10, 5.0, 0.0),  # an ESS of exp(10) from 10 rows
        (10, 0.0, 5.0),  # an ESS below one
    ],
)
def test_impossible_sums_are_refused(sums):
    with pytest.raises(EstimatorInputError):
        EssSums(*sums)


def test_no_rows_have_no_ess():
    empty = EssSums.merge()
    assert empty.count == 0
    with pytest.raises(EstimatorInputError, match="no rows"):
        empty.fraction()


@pytest.mark.parametrize(
    "columns",
    [([1.5], [0.0], [0.0]), ([-1], [0.0], [0.0]), ([1], [0.0, 0.0], [0.0]), ([1], [0.0], [])],
)
def test_columns_that_do_not_fit_are_refused(columns):
    with pytest.raises(EstimatorInputError):
        EssSums.from_parts(*columns)
