import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions.composition import compose

value = st.one_of(st.just(math.nan), st.floats(-10, 10))


@given(
    st.lists(st.tuples(value, value, value), min_size=1),
    st.tuples(*[st.floats(0, 2).filter(lambda w: w == 0 or w > 1e-3)] * 3),
)
def test_each_row_is_the_weighted_mean_of_what_has_arrived(rows, weights):
    names = "abc"
    got = compose(
        dict(zip(names, weights, strict=True)),
        {n: [r[i] for r in rows] for i, n in enumerate(names)},
    )
    for row, reward in zip(rows, got.tolist(), strict=True):
        here = [(w, x) for w, x in zip(weights, row, strict=True) if not math.isnan(x)]
        total = sum(w for w, _ in here)
        if total == 0:
            assert math.isnan(reward)
        else:
            assert reward == pytest.approx(sum(w * x for w, x in here) / total, abs=1e-9)


def test_a_component_without_weight_may_be_left_out():
    assert compose({"a": 1, "b": 0}, {"a": [2.0]}).tolist() == [2]


@pytest.mark.parametrize(
    ("components", "why"),
    [
        ({"a": [1.0], "c": [1.0]}, "unknown"),
        ({"a": [1.0]}, "missing"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "'b'"),
        ({"a": [1.0], "b": [np.inf]}, "'b'"),
    ],
)
def test_components_that_do_not_fit_are_named(components, why):
    with pytest.raises(ValueError, match=why):
        compose({"a": 0.5, "b": 0.5}, components)
