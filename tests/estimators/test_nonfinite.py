import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import NonFinite, count_nonfinite

FAST = settings(deadline=None, derandomize=True, max_examples=60)


def test_each_kind_is_counted():
    counts = count_nonfinite([1.0, math.nan, math.inf, -math.inf, math.inf, 0.0])
    assert counts == NonFinite(nan=1, posinf=2, neginf=1)
    assert counts.total == 4


@pytest.mark.parametrize("values", [[], [1, 2], [True], np.zeros((2, 2)), 3.0])
def test_finite_values(values):
    assert count_nonfinite(values).total == 0


@FAST
@given(st.lists(st.floats() | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=40))
def test_agrees_with_plain_loops(values):
    counts = count_nonfinite(values)
    assert counts.nan == sum(math.isnan(v) for v in values)
    assert counts.posinf == values.count(math.inf)
    assert counts.neginf == values.count(-math.inf)
    assert counts.total == sum(not math.isfinite(v) for v in values)
    assert count_nonfinite(values[::-1]) == counts


def test_text_is_refused():
    with pytest.raises(EstimatorInputError, match="values"):
        count_nonfinite(["a"])
