"""A sum that is rounded once, whatever the order."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.estimators.mean import exact_sum, mean

FAST = settings(deadline=None, derandomize=True, max_examples=150)
NUMBERS = st.floats(-1e300, 1e300, allow_nan=False)


@FAST
@given(st.lists(NUMBERS, max_size=60))
def test_it_is_the_exactly_rounded_sum(values):
    assert exact_sum(np.array(values)) == math.fsum(values)


@FAST
@given(st.integers(0, 999), st.integers(1, 3000), st.integers(0, 200))
def test_many_values_of_any_size_that_cancel(seed, rows, spread):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=rows) * 10.0 ** rng.uniform(-spread, spread / 10, rows)
    values = rng.permutation(np.concatenate([values, -values[: rows // 2]]))
    assert exact_sum(values) == math.fsum(values.tolist())
    assert exact_sum(values[::-1]) == exact_sum(values)


def test_denormals_and_nothing():
    tiny = np.full(7, 5e-324)
    assert exact_sum(tiny) == 7 * 5e-324
    assert exact_sum(np.array([])) == 0.0
    assert mean(np.array([1.7e308, 1.7e308])) == 1.7e308
