import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import second_moments

FAST = settings(deadline=None, derandomize=True, max_examples=60)


@FAST
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 4))
def test_against_the_definition(seed, n, count):
    rng = np.random.default_rng(seed)
    norms, slices = rng.lognormal(0, 2, n), rng.integers(0, count, n)
    found = second_moments(norms, slices, count)
    for number in range(count):
        own = [norm for norm, code in zip(norms, slices, strict=True) if code == number]
        assert found.rows[number] == len(own)
        assert found.share_of_rows[number] == pytest.approx(len(own) / n)
        assert found.share[number] == pytest.approx(sum(x * x for x in own) / (norms**2).sum())
        mean = sum(x * x for x in own) / len(own) if own else 0.0
        assert found.mean_square[number] == pytest.approx(mean)


@FAST
@given(st.integers(0, 999), st.sampled_from([1e-100, 1e100]), st.randoms())
def test_order_changes_no_bit_and_a_common_factor_no_share(seed, factor, random):
    rng = np.random.default_rng(seed)
    norms, slices = rng.random(9), rng.integers(0, 3, 9)
    found = second_moments(norms, slices, 3)
    order = random.sample(range(9), 9)
    again = second_moments(norms[order], slices[order], 3)
    assert (again.mean_square == found.mean_square).all()
    scaled = second_moments(factor * norms, slices, 3)
    assert scaled.share == pytest.approx(found.share)
    assert scaled.mean_square == pytest.approx(factor * factor * found.mean_square)


@pytest.mark.parametrize(
    ("norms", "slices"),
    [([], []), ([0.0], [0]), ([-1.0], [0]), ([math.nan], [0]), ([1.0], [2]), ([1.0], [0.5])],
)
def test_bad_rows_are_refused(norms, slices):
    with pytest.raises(EstimatorInputError):
        second_moments(norms, np.array(slices), 2)
