import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import ess, gini, lorenz

FAST = settings(deadline=None, derandomize=True, max_examples=60)
VALUES = st.lists(st.floats(1e-9, 1e9) | st.just(0.0), min_size=1, max_size=30).filter(any)


def slow_gini(values):
    exact = [Fraction(v) for v in values]
    n = len(exact)
    return float(sum(abs(a - b) for a in exact for b in exact) / (2 * n * sum(exact)))


@pytest.mark.parametrize("n", [1, 2, 9, 1000])
def test_equal_values_are_perfectly_equal(n):
    assert gini(np.full(n, 0.3)) == 0.0


@pytest.mark.parametrize("n", [2, 9, 1000])
def test_one_holder(n):
    values = np.zeros(n)
    values[0] = 4.0
    assert gini(values) == pytest.approx((n - 1) / n)
    assert gini(values, corrected=True) == pytest.approx(1.0)


def test_small_closed_forms():
    assert gini([1, 2, 3]) == pytest.approx(2 / 9)
    assert gini([1, 2, 3], corrected=True) == pytest.approx(1 / 3)
    assert gini(np.arange(1, 101)) == pytest.approx(99 / 300)


@pytest.mark.parametrize(("s", "expected", "ess_within"), [(1.627, 0.75, 0.1), (0.642, 0.35, 1e-3)])
def test_log_normal_contributions(s, expected, ess_within):
    z = ndtri((np.arange(100_000) + 0.5) / 100_000)
    assert math.erf(s / 2) == pytest.approx(expected, abs=1e-3)
    assert gini(np.exp(s * z)) == pytest.approx(math.erf(s / 2), rel=1e-3)
    assert ess(s * z) / z.size == pytest.approx(math.exp(-s * s), rel=ess_within)


@FAST
@given(VALUES)
def test_agrees_with_mean_absolute_difference(values):
    assert gini(values) == pytest.approx(slow_gini(values), rel=1e-12, abs=1e-13)


@FAST
@given(VALUES, st.sampled_from([1e-200, 0.25, 3.0, 1e200]))
def test_scale_changes_nothing(values, scale):
    scaled = [v * scale for v in values]
    assert gini(scaled) == pytest.approx(gini(values), rel=1e-12, abs=1e-13)


@FAST
@given(st.lists(st.floats(0, 1.7e308), min_size=1, max_size=20).filter(any))
def test_bounds_for_any_value(values):
    n = len(values)
    assert 0.0 <= gini(values) <= (n - 1) / n
    if n > 1:
        assert gini(values) <= gini(values, corrected=True) <= 1.0


@FAST
@given(VALUES, st.randoms(use_true_random=False))
def test_row_order_changes_no_bit(values, random):
    shuffled = random.sample(values, len(values))
    assert gini(shuffled) == gini(values)
    assert all(np.array_equal(a, b) for a, b in zip(lorenz(shuffled), lorenz(values), strict=True))


def test_lorenz_curve_closed_form():
    population, share = lorenz([3.0, 1.0, 0.0, 4.0])
    assert population == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert share == pytest.approx([0, 0, 1 / 8, 4 / 8, 1])


@FAST
@given(VALUES)
def test_gini_is_the_area_between_diagonal_and_lorenz_curve(values):
    population, share = lorenz(values)
    assert population[0] == share[0] == 0.0
    assert population[-1] == share[-1] == 1.0
    assert (np.diff(share) >= 0).all()
    assert (share <= population + 1e-12).all()
    area = np.diff(population) @ (share[1:] + share[:-1]) / 2
    assert 1 - 2 * area == pytest.approx(gini(values), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("bad", [[], [0.0, 0.0], [1.0, -1.0], [math.nan], [math.inf], [[1.0]]])
@pytest.mark.parametrize("estimator", [gini, lorenz])
def test_what_cannot_be_shared_is_refused(estimator, bad):
    with pytest.raises(EstimatorInputError, match="values"):
        estimator(bad)


def test_one_value_cannot_be_corrected():
    with pytest.raises(EstimatorInputError, match="two values"):
        gini([1.0], corrected=True)
