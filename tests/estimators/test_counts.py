import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import clopper_pearson, poisson_upper


@pytest.mark.parametrize(
    ("count", "bound"), [(0, 2.99573), (1, 4.74386), (2, 6.29579), (10, 16.9622), (100, 118.079)]
)
def test_bound_of_a_count_as_in_tables(count, bound):
    assert poisson_upper(count) == pytest.approx(bound, rel=1e-5)


@given(st.integers(0, 400), st.floats(0.5, 0.999))
def test_the_bound_leaves_what_it_promises(count, confidence):
    mean = poisson_upper(count, confidence)
    left = math.fsum(
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)
    )
    assert left == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize(
    ("won", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.30850),
        (5, 10, 0.18709, 0.81291),
        (10, 10, 0.69150, 1.0),
        (1, 100, 0.00025, 0.05446),
    ],
)
def test_interval_of_a_proportion_as_in_tables(won, of, low, high):
    assert clopper_pearson(won, of) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 60), st.data())
def test_the_interval_mirrors(of, data):
    won = data.draw(st.integers(0, of))
    low, high = clopper_pearson(won, of)
    assert low <= won / of <= high
    assert clopper_pearson(of - won, of) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("won", "of"), [(0, 0), (3, 2), (-1, 5)])
def test_refuses_counts_that_cannot_be(won, of):
    with pytest.raises(EstimatorInputError):
        clopper_pearson(won, of)


def test_refuses_a_confidence_that_cannot_be():
    with pytest.raises(EstimatorInputError, match="confidence"):
        poisson_upper(3, 1.0)
