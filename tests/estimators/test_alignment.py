import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import gradient_diversity, opposing_share

FAST = settings(deadline=None, derandomize=True, max_examples=60)


def norms_and_cosines(gradients):
    norms, whole = np.linalg.norm(gradients, axis=1), gradients.sum(axis=0)
    return norms, gradients @ whole / (norms * np.linalg.norm(whole))


def draw(seed, n, d=4):
    return 0.3 + np.random.default_rng(seed).normal(size=(n, d))


@FAST
@given(st.integers(0, 999), st.integers(1, 20))
def test_diversity_is_that_of_the_gradients(seed, n):
    gradients = draw(seed, n)
    expected = sum(row @ row for row in gradients) / (gradients.sum(axis=0) ** 2).sum()
    found = gradient_diversity(*norms_and_cosines(gradients))
    assert found == pytest.approx(expected, rel=1e-9)
    assert found >= (1 - 1e-9) / n


@pytest.mark.parametrize("n", [1, 2, 50])
def test_diversity_of_equal_and_of_orthogonal_gradients(n):
    assert gradient_diversity(np.full(n, 0.7), np.ones(n)) == pytest.approx(1 / n)
    assert gradient_diversity(*norms_and_cosines(3 * np.eye(n))) == pytest.approx(1.0)


def test_diversity_of_several_updates_is_a_ratio_of_sums():
    parts = [draw(1, 5), draw(2, 9)]
    norms, cosines = (np.concatenate(c) for c in zip(*map(norms_and_cosines, parts), strict=True))
    squares = sum((part**2).sum() for part in parts)
    wholes = sum((part.sum(axis=0) ** 2).sum() for part in parts)
    found = gradient_diversity(norms, cosines, ["a"] * 5 + ["b"] * 9)
    assert found == pytest.approx(squares / wholes)


@FAST
@given(st.integers(0, 999), st.sampled_from([1e-200, 0.5, 1e200]), st.randoms())
def test_neither_order_nor_a_common_factor_counts(seed, factor, random):
    norms, cosines = norms_and_cosines(draw(seed, 9))
    order = random.sample(range(9), 9)
    for estimator in (gradient_diversity, opposing_share):
        found = estimator(norms, cosines)
        assert estimator(norms[order], cosines[order]) == found
        assert estimator(factor * norms, cosines) == pytest.approx(found, rel=1e-9)


def test_opposing_share_counts_contribution_not_rows():
    assert opposing_share([3.0, 1.0, 0.0], [0.5, -0.1, math.nan]) == 0.25
    assert opposing_share([1.0, 2.0], [0.0, 1.0]) == 0.0
    assert opposing_share([1.0, 2.0], [-0.5, -1.0]) == 1.0, "asks for no complete update"


def test_gradients_that_sum_to_nothing_are_no_update():
    with pytest.raises(EstimatorInputError, match="sum to nothing"):
        gradient_diversity([1.0, 1.0], [0.0, 0.0])


@pytest.mark.parametrize("estimator", [gradient_diversity, opposing_share])
@pytest.mark.parametrize(
    ("norms", "cosines"),
    [([], []), ([0.0], [1.0]), ([-1.0], [1.0]), ([1.0], [1.1]), ([1.0], [math.inf]), ([1.0], [])],
)
def test_bad_rows_are_refused(estimator, norms, cosines):
    with pytest.raises(EstimatorInputError, match=r"norms|cosines"):
        estimator(norms, cosines)
