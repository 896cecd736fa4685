import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import baseline_weights
from mmhealth.interventions import minimum_variance_baseline

FAST = settings(deadline=None, derandomize=True, max_examples=60)


@FAST
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 4))
def test_weighted_rewards_are_the_baseline_of_least_variance(seed, rows, groups):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    reward, advantage = rng.normal(size=(2, rows))
    score, log_weight = rng.lognormal(0, 1, rows), rng.normal(size=rows)
    norms = np.exp(log_weight) * np.abs(advantage) * score
    weights = baseline_weights(norms, advantage, group)
    baseline = np.bincount(group, weights * reward)[group]
    expected = minimum_variance_baseline(reward, score, group, log_weight=log_weight)
    assert baseline == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_no_other_baseline_has_less_variance():
    rng = np.random.default_rng(0)
    reward, advantage = rng.normal(size=(2, 8))
    score = rng.lognormal(0, 1, 8)
    weights = baseline_weights(score * np.abs(advantage), advantage, np.zeros(8, int))
    best = weights @ reward
    variance = {b: (score**2 * (reward - b) ** 2).sum() for b in (best - 0.01, best, best + 0.01)}
    assert min(variance, key=variance.__getitem__) == best


@FAST
@given(st.integers(0, 999), st.sampled_from([1e-200, 1e200]), st.randoms())
def test_they_sum_to_one_whatever_the_order_and_the_factor(seed, factor, random):
    rng = np.random.default_rng(seed)
    norms, advantage, group = rng.random(9), rng.choice([-1.0, 0.5], 9), np.repeat(list("abc"), 3)
    found = baseline_weights(norms, advantage, group)
    assert [found[group == name].sum() for name in "abc"] == pytest.approx([1.0] * 3)
    order = np.array(random.sample(range(9), 9))
    assert (baseline_weights(norms[order], advantage[order], group[order]) == found[order]).all()
    assert baseline_weights(factor * norms, advantage, group) == pytest.approx(found, rel=1e-9)


def test_equal_scores_give_the_mean_and_a_silent_group_too():
    assert baseline_weights([2.0, 1.0, 1.0], [-2.0, 1.0, 1.0], [0, 0, 0]) == pytest.approx(1 / 3)
    assert baseline_weights([0.0, 0.0, 5.0], [1.0, 1.0, 1.0], [0, 0, 1]).tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    ("norms", "advantage", "groups", "why"),
    [
        ([1.0, 1.0], [1.0, 0.0], [0, 0], "hides"),
        ([1.0], [math.nan], [0], "advantages"),
        ([-1.0], [1.0], [0], "negative"),
        ([], [], [], "no values"),
        ([1.0], [1.0, 1.0], [0], "shapes"),
        ([1.0], [1.0], [0, 1], "shapes"),
    ],
)
def test_what_tells_no_score_is_refused(norms, advantage, groups, why):
    with pytest.raises(EstimatorInputError, match=why):
        baseline_weights(norms, advantage, groups)
