import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import ess, ess_interval, gini, gini_interval

FAST = settings(deadline=None, derandomize=True, max_examples=60)
LOGS = st.lists(st.floats(-20, 5) | st.just(-math.inf), min_size=4, max_size=40).filter(
    lambda logs: max(logs) > -math.inf
)


def ess_odds(logs):
    """1 / cv^2, with the variance divided by n - 1."""
    n = len(logs)
    return 1 / ((n / ess(logs) - 1) * n / (n - 1))


def gini_odds(values):
    share = gini(values, corrected=True)
    return share / (1 - share)


def slow_interval(odds, rows, groups, level):
    """The method as the papers write it: leave each group out, find quantiles by search."""
    ids = sorted(set(groups))
    whole = math.log(odds(rows))
    without = np.array([math.log(odds(rows[groups != one])) for one in ids])
    count = len(ids)
    influence = without.mean() - without
    se = math.sqrt((count - 1) / count * (influence**2).sum())
    skewness = stats.skew(influence) / math.sqrt(count)
    kurtosis = stats.kurtosis(influence, fisher=False)
    t = stats.t.ppf((1 + level) / 2, min(2 * count / (kurtosis - 1), count - 1))

    def hall(x):
        return x + skewness * x**2 / 3 + skewness**2 * x**3 / 27 + skewness / 6

    def studentised(x):
        return optimize.brentq(lambda y: hall(y) - x, -1e3, 1e3)

    low = whole - se * max(t, studentised(t))
    high = whole - se * min(-t, studentised(-t))
    return 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("spread", [0.01, 0.5, 1.5, 6.0])
def test_agrees_with_the_method_done_slowly(level, spread):
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 17, 90)
    logs = spread * rng.normal(size=90) + 0.3 * spread * groups
    found = ess_interval(logs, groups, level=level)
    assert (found.low, found.high) == pytest.approx(
        slow_interval(ess_odds, logs, groups, level), rel=0.02
    )
    values = np.exp(logs)
    found = gini_interval(values, groups, level=level)
    assert (found.low, found.high) == pytest.approx(
        slow_interval(gini_odds, values, groups, level), rel=0.02
    )


@pytest.mark.parametrize(
    ("draw", "ess_share", "gini_share"),
    [
        (lambda rng, n: rng.exponential(size=n), 0.5, 0.5),
        (lambda rng, n: np.exp(0.5 * rng.normal(size=n)), math.exp(-0.25), math.erf(0.25)),
        (lambda rng, n: np.where(rng.random(n) < 0.3, 1.0, 0.0), 0.3, 0.7),
        (lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 3.0), 0.8, 0.25),
    ],
    ids=["exponential", "log-normal", "share of ones", "two-point"],
)
def test_closes_in_on_the_population(draw, ess_share, gini_share):
    values = draw(np.random.default_rng(3), 20_000)
    with np.errstate(divide="ignore"):
        of_ess = ess_interval(np.log(values), level=0.99)
    of_gini = gini_interval(values, level=0.99)
    for found, truth in ((of_ess, ess_share), (of_gini, gini_share)):
        assert found.low < truth < found.high
        assert found.high - found.low < 0.04
        assert found.reliable
        assert found.why == ""


def test_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    draws = rng.exponential(size=(400, 128))
    for found in (
        [ess_interval(np.log(row)) for row in draws],
        [gini_interval(row) for row in draws],
    ):
        share = np.mean([interval.low <= 0.5 <= interval.high for interval in found])
        assert 0.82 < share < 0.97  # 0.9 +- 5 standard errors


def test_a_heavy_tail_is_called_unreliable_and_a_light_one_is_not():
    rng = np.random.default_rng(5)
    heavy = [ess_interval(np.log1p(rng.pareto(1.5, size=1024))) for _ in range(40)]
    light = [ess_interval(np.log(rng.exponential(size=1024))) for _ in range(40)]
    assert sum(interval.reliable for interval in heavy) <= 2
    assert sum(interval.reliable for interval in light) >= 30
    assert sum("heavy tail" in interval.why for interval in heavy) > 30


def test_the_tail_that_counts_is_that_of_the_square():
    # E w^2 is finite, its estimate has no variance; the mean of w has one
    weights = 1 + np.random.default_rng(6).pareto(3.0, size=20_000)
    assert "heavy tail" in ess_interval(np.log(weights)).why
    assert gini_interval(weights).reliable


@pytest.mark.parametrize("interval_of", [ess_interval, gini_interval])
def test_copies_of_a_row_within_a_group_tell_nothing_new(interval_of):
    rows = np.random.default_rng(7).exponential(size=64)
    copied, groups = np.repeat(rows, 8), np.repeat(np.arange(64), 8)
    one, blind, found = interval_of(rows), interval_of(copied), interval_of(copied, groups)
    assert (found.low, found.high) == pytest.approx((one.low, one.high), abs=0.02)
    assert found.high - found.low > 2 * (blind.high - blind.low)
    assert (found.n, found.groups) == (512, 64)
    assert not found.reliable
    assert "worth 64 independent" in found.why


def test_groups_without_resemblance_cost_little():
    rows = np.random.default_rng(8).exponential(size=1024)
    found, alone = (gini_interval(rows, groups) for groups in (np.arange(1024) // 8, None))
    assert found.reliable
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.25)


@pytest.mark.parametrize("interval_of", [ess_interval, gini_interval])
def test_few_groups_and_few_rows_are_not_enough(interval_of):
    rows = np.random.default_rng(9).random(400)
    assert interval_of(rows, np.arange(400) // 10).reliable
    assert interval_of(rows, np.arange(400) // 25).why == "16 groups of rows, fewer than 20"
    assert "worth 127 independent ones" in interval_of(rows[:127]).why


def test_one_row_that_makes_the_interval_is_named():
    logs = 0.1 * np.random.default_rng(10).normal(size=20_000)
    assert ess_interval(logs).reliable
    logs[17] = 3.0
    found = ess_interval(logs)
    assert not found.reliable
    assert "one row makes" in found.why


def test_rare_values_need_ten_rows():
    for rare, enough in ((8, False), (12, True)):
        values = np.ones(1000)
        values[:rare] = 9.0
        assert gini_interval(values).reliable is enough
        assert ess_interval(np.log(values)).reliable is enough


@FAST
@given(LOGS, st.integers(4, 9), st.randoms(use_true_random=False))
def test_row_order_changes_no_bit(logs, count, random):
    rows = [(value, f"prompt {i % count}") for i, value in enumerate([*logs, 0.0, -1.0])]
    shuffled = random.sample(rows, len(rows))
    for interval_of, scale in ((ess_interval, lambda x: x), (gini_interval, math.exp)):
        first, second = (
            interval_of([scale(value) for value, _ in some], [group for _, group in some])
            for some in (rows, shuffled)
        )
        assert first == second


@FAST
@given(LOGS, st.sampled_from([-300.0, -1.0, 250.0]))
def test_scale_changes_nothing(logs, shift):
    groups = np.arange(len(logs)) // 2 if len(logs) > 6 else None
    found, moved = (ess_interval(np.array(logs) + by, groups) for by in (0.0, shift))
    assert (moved.low, moved.high) == pytest.approx((found.low, found.high), rel=1e-6, abs=1e-9)
    values = np.exp(logs)
    found, scaled = (gini_interval(values * by, groups) for by in (1.0, math.exp(shift)))
    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high), rel=1e-6, abs=1e-9)


@FAST
@given(
    st.lists(
        st.floats(allow_nan=False, max_value=1e308) | st.sampled_from([0.0, 1.0, -math.inf]),
        min_size=3,
        max_size=150,
    ).filter(lambda logs: max(logs) > -math.inf)
)
def test_any_log_weights_give_an_interval_of_shares(logs):
    found = ess_interval(logs)
    assert 0.0 <= found.low <= found.high <= 1.0
    assert found.reliable is (found.why == "")


@FAST
@given(st.lists(st.floats(0, 1.7e308), min_size=3, max_size=150).filter(any))
def test_any_values_give_an_interval_of_shares(values):
    found = gini_interval(values)
    assert 0.0 <= found.low <= found.high <= 1.0


def test_a_higher_level_is_wider():
    logs = np.log(np.random.default_rng(11).exponential(size=300))
    ends = [(i.low, i.high) for i in (ess_interval(logs, level=x) for x in (0.5, 0.9, 0.99))]
    assert ends[2][0] < ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1] < ends[2][1]


def test_nearly_equal_weights_keep_their_digits():
    logs = 1e4 + 1e-5 * np.random.default_rng(12).normal(size=4096)
    found = ess_interval(logs)
    assert 0.9e-10 < 1 - found.high < 1e-10 < 1 - found.low < 1.1e-10
    assert found.reliable


@pytest.mark.parametrize("level", [0.0, 1e4])
def test_equal_weights_say_nothing_of_the_population(level):
    found = ess_interval(np.full(500, level))
    assert (found.low, found.high, found.reliable) == (1.0, 1.0, False)
    assert "all rows are equal" in found.why
    found = gini_interval(np.full(500, level + 1))
    assert (found.low, found.high, found.reliable) == (0.0, 0.0, False)


@pytest.mark.parametrize("rest", [0.0, 1e-200, 0.5])
def test_one_row_that_differs_leaves_everything_open(rest):
    values = np.full(500, rest)
    values[3] = 1.0
    for found in (
        gini_interval(values),
        ess_interval([math.log(v) if v else -math.inf for v in values]),
    ):
        assert (found.low, found.high, found.reliable) == (0.0, 1.0, False)
        assert "without one of the groups" in found.why


def test_groups_that_are_all_alike():
    logs, groups = np.tile([0.0, 1.0, 2.0, 3.0], 50), np.repeat(np.arange(50), 4)
    found = ess_interval(logs, groups)
    assert found.high - found.low < 1e-9
    assert found.low == pytest.approx(ess(logs) / 200, rel=0.01)


@pytest.mark.parametrize("interval_of", [ess_interval, gini_interval])
@pytest.mark.parametrize(
    ("rows", "groups", "message"),
    [
        ([], None, "no values"),
        ([1.0], None, "1 group of rows"),
        ([1.0, 2.0], None, "2 groups of rows"),
        ([1.0, 2.0, 3.0], [7, 7, 7], "1 group of rows"),
        ([1.0, 2.0, 3.0], [7, 7], "differ"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, math.nan], "missing"),
        ([1.0, 2.0, math.nan], None, "NaN"),
        ([[1.0, 2.0, 3.0]], None, "one dimension"),
    ],
)
def test_insufficient_or_wrong_input_is_refused(interval_of, rows, groups, message):
    with pytest.raises(EstimatorInputError, match=message):
        interval_of(rows, groups)


def test_nothing_to_share_is_refused():
    with pytest.raises(EstimatorInputError, match="all weights are zero"):
        ess_interval([-math.inf] * 30)
    with pytest.raises(EstimatorInputError, match="all are zero"):
        gini_interval([0.0] * 30)
    with pytest.raises(EstimatorInputError, match="negative"):
        gini_interval([1.0, 2.0, -1.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 90, math.nan])
def test_a_level_is_a_probability(level):
    with pytest.raises(EstimatorInputError, match="level"):
        ess_interval([0.0, 1.0, 2.0], level=level)
