import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import lorenz, max_weight_share, top_share

FAST = settings(deadline=None, derandomize=True, max_examples=60)
VALUES = st.lists(st.floats(1e-9, 1e9) | st.just(0.0), min_size=1, max_size=30).filter(any)
FRACTIONS = st.floats(0.001, 1.0)


def slow_top_share(values, fraction):
    """Cut the rows, largest first, until `fraction` of the rows are taken."""
    exact = sorted((Fraction(v) for v in values), reverse=True)
    left, taken = Fraction(fraction) * len(exact), Fraction(0)
    for value in exact:
        part = min(left, Fraction(1))
        taken += part * value
        left -= part
    return float(taken / sum(exact))


@pytest.mark.parametrize("n", [1, 3, 16, 20, 999])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.5, 1.0])
def test_equal_values_give_the_fraction(n, fraction):
    assert top_share(np.full(n, 7.0), fraction) == pytest.approx(fraction, rel=1e-14)


def test_closed_forms():
    assert top_share([0.0] * 19 + [5.0]) == 1.0
    assert top_share([1.0] * 98 + [51.0, 51.0], 0.02) == pytest.approx(102 / 200)
    assert top_share([1.0, 2.0, 3.0], 0.5) == pytest.approx((3 + 0.5 * 2) / 6)
    assert top_share([0.0] * 9 + [1.0], 0.05) == pytest.approx(0.5)  # half of the one row


def test_log_normal_contributions():
    s = 1.627
    values = np.exp(s * ndtri((np.arange(100_000) + 0.5) / 100_000))
    expected = NormalDist().cdf(s - NormalDist().inv_cdf(0.95))
    assert expected == pytest.approx(0.49, abs=0.01)
    assert top_share(values) == pytest.approx(expected, rel=2e-3)


@FAST
@given(VALUES, FRACTIONS)
def test_agrees_with_exact_arithmetic(values, fraction):
    assert top_share(values, fraction) == pytest.approx(slow_top_share(values, fraction), rel=1e-12)


@FAST
@given(VALUES, FRACTIONS)
def test_agrees_with_the_lorenz_curve(values, fraction):
    below = np.interp(1 - fraction, *lorenz(values))
    assert top_share(values, fraction) == pytest.approx(1 - below, abs=1e-11)


@FAST
@given(VALUES, FRACTIONS, st.randoms(use_true_random=False))
def test_invariants(values, fraction, random):
    share = top_share(values, fraction)
    assert fraction - 1e-12 <= share <= 1.0
    assert share <= top_share(values, min(1.0, fraction * 1.5)) + 1e-12
    assert top_share([v * 3.0 for v in values], fraction) == pytest.approx(share, rel=1e-12)
    assert top_share(random.sample(values, len(values)), fraction) == share


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(EstimatorInputError, match="fraction"):
        top_share([1.0], fraction)


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0, 2.0], [math.nan, 1.0], [math.inf]])
def test_what_cannot_be_shared_is_refused(bad):
    with pytest.raises(EstimatorInputError, match="values"):
        top_share(bad)


def test_max_weight_share_closed_forms():
    assert max_weight_share(np.zeros(8)) == 1 / 8
    assert max_weight_share(np.log([1.0, 3.0]) + 1e4) == pytest.approx(0.75, rel=1e-11)
    assert max_weight_share([0.0, -math.inf, -math.inf]) == 1.0


@FAST
@given(
    st.lists(st.floats(-30, 30) | st.just(-math.inf), min_size=1, max_size=30).filter(
        lambda logs: max(logs) > -math.inf
    ),
    st.randoms(use_true_random=False),
)
def test_max_weight_share_against_plain_sums(logs, random):
    weights = [math.exp(x) for x in logs]
    share = max_weight_share(logs)
    assert share == pytest.approx(max(weights) / math.fsum(weights), rel=1e-12)
    assert 1 / len(logs) * (1 - 1e-12) <= share <= 1.0
    assert max_weight_share(random.sample(logs, len(logs))) == share


@pytest.mark.parametrize("bad", [[], [-math.inf], [math.nan], [math.inf], [[0.0]]])
def test_what_is_no_log_weight_is_refused(bad):
    with pytest.raises(EstimatorInputError, match="log_weights"):
        max_weight_share(bad)
