import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import EssLearningRate


@given(st.lists(st.floats(-5, 5), min_size=1), st.floats(-2000, 2000))
def test_the_factor_is_the_root_of_the_effective_share(logs, shift):
    weights = np.exp(logs)
    share = weights.sum() ** 2 / (weights**2).sum() / len(logs)
    got = EssLearningRate(floor=0.0).factor(np.array(logs) + shift)
    assert got == pytest.approx(math.sqrt(share), rel=1e-6)


def test_one_on_policy_and_the_floor_when_one_row_carries_all():
    rate = EssLearningRate(floor=0.1)
    assert rate.factor(np.zeros(10)) == 1
    assert rate.factor(np.array([900.0] + [0.0] * 9999)) == 0.1


def test_smoothing_is_over_the_share():
    rate = EssLearningRate(decay=0.5)
    rate.factor(np.zeros(4))
    assert rate.factor([0.0, -np.inf, -np.inf, -np.inf]) == pytest.approx(math.sqrt(0.625))


@pytest.mark.parametrize("logs", [[], [np.nan], [np.inf]])
def test_unusable_weights_are_refused(logs):
    with pytest.raises(ValueError, match="log_weights"):
        EssLearningRate().factor(logs)
