import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import StagedConfig, StagedObjectives


def test_the_article_s_schedule():
    staged = StagedObjectives(100)
    assert [staged.weights(step)["preference"] for step in (0, 30, 45, 99)] == [0, 0, 0.5, 0.5]
    assert staged.weights(36)["preference"] == pytest.approx(0.2)
    assert staged.floor_active(44)
    assert not staged.floor_active(45)


@given(
    st.integers(1, 500),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.floats(0, 1),
    st.integers(0, 500),
)
def test_weights_sum_to_one_and_the_preference_only_grows(total, warmup, ramp, preference, step):
    staged = StagedObjectives(total, StagedConfig(warmup=warmup, ramp=ramp, preference=preference))
    now, later = staged.weights(step), staged.weights(step + 1)
    assert sum(now.values()) == pytest.approx(1)
    assert 0 <= now["preference"] <= later["preference"] <= preference
    assert staged.floor_active(step) or now["preference"] == preference


def test_a_ramp_of_zero_is_a_jump():
    staged = StagedObjectives(10, StagedConfig(warmup=0.5, ramp=0, preference=1))
    assert [staged.weights(step)["preference"] for step in (4, 5)] == [0, 1]


def test_reward_changes_from_one_component_to_both():
    staged = StagedObjectives(100)
    parts = {"verifiable": np.array([1.0, 0.0]), "preference": np.array([0.0, 1.0])}
    assert staged.compose(0, parts).tolist() == [1, 0]
    assert staged.compose(60, parts).tolist() == [0.5, 0.5]


def test_pending_preferences_leave_the_verifiable_reward():
    staged = StagedObjectives(100)
    parts = {"verifiable": [1.0, math.nan, math.nan], "preference": [math.nan, 0.25, math.nan]}
    late, early = staged.compose(60, parts), staged.compose(0, parts)
    assert late[:2].tolist() == [1, 0.25]
    assert np.isnan(late[2])
    assert np.isnan(early[1:]).all()


@pytest.mark.parametrize("wrong", [{"warmup": 1.1}, {"ramp": -1}, {"preference": 2}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StagedConfig(**wrong)
    with pytest.raises(ValueError, match="total_steps"):
        StagedObjectives(0)
