"""Gradient noise from norms and cosines, against the gradients themselves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import gradient_noise
from mmhealth.estimators.jackknife import Jackknife

FAST = settings(deadline=None, derandomize=True, max_examples=60)


def norms_and_cosines(gradients):
    """What a meter measures of the rows (n, d) of an update."""
    norms, whole = np.linalg.norm(gradients, axis=1), gradients.sum(axis=0)
    length = norms * np.linalg.norm(whole)
    return norms, np.divide(gradients @ whole, length, out=np.zeros(len(norms)), where=length > 0)


def slow_moments(gradients):
    """|mu|^2 over all pairs and the trace of the sample covariance, term by term."""
    n = len(gradients)
    pairs = sum(gradients[i] @ gradients[j] for i in range(n) for j in range(n) if i != j)
    mean = gradients.mean(axis=0)
    spread = sum(((row - mean) ** 2).sum() for row in gradients)
    return pairs / (n * (n - 1)), spread / (n - 1)


def draw(seed, n=12, d=5, mean=0.5):
    rng = np.random.default_rng(seed)
    return rng.lognormal(0, 0.5, (n, 1)) * (mean + rng.normal(size=(n, d)))


@FAST
@given(st.integers(0, 999), st.integers(3, 20), st.integers(1, 6), st.floats(0, 2))
def test_moments_are_those_of_the_gradients(seed, n, d, mean):
    gradients = draw(seed, n, d, mean)
    signal, spread = slow_moments(gradients)
    found = gradient_noise(*norms_and_cosines(gradients))
    scale = (gradients**2).sum() / n
    assert found.mean_square == pytest.approx(signal, rel=1e-9, abs=1e-12 * scale)
    assert found.spread == pytest.approx(spread, rel=1e-9, abs=1e-12 * scale)
    assert found.snr == pytest.approx(n * signal / spread, rel=1e-8, abs=1e-11)
    if signal > 1e-9 * scale:
        assert found.noise_scale == pytest.approx(spread / signal, rel=1e-6)
    assert (found.rows, found.updates) == (n, 1)


@FAST
@given(st.integers(0, 999), st.integers(4, 16), st.integers(1, 3), st.floats(0.5, 0.99))
def test_the_jackknife_leaves_each_gradient_out(seed, n, updates, level):
    parts = [draw(seed + 1000 * k, n + k) for k in range(updates)]
    weights = np.array([len(part) for part in parts], float)

    def ratio(kept):
        moments = np.array([slow_moments(part) for part in kept])
        sizes = np.array([len(part) for part in kept], float)
        signal, spread = sizes @ moments
        return signal / spread

    without = [
        ratio([*parts[:k], np.delete(part, i, axis=0), *parts[k + 1 :]])
        for k, part in enumerate(parts)
        for i in range(len(part))
    ]
    jackknife = Jackknife(ratio(parts), np.array(without))
    columns = [norms_and_cosines(part) for part in parts]
    norms, cosines = (np.concatenate(column) for column in zip(*columns, strict=True))
    labels = np.repeat([f"u{k}" for k in range(updates)], weights.astype(int))
    found = gradient_noise(norms, cosines, labels)
    expected = np.array(jackknife.interval(level)) * weights.mean()
    assert found.snr_interval(level) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-9)


@FAST
@given(st.integers(0, 999), st.sampled_from([1e-150, 0.25, 3.0, 1e150]), st.randoms())
def test_order_changes_no_bit_and_a_common_factor_no_ratio(seed, factor, random):
    norms, cosines = norms_and_cosines(draw(seed))
    updates = np.repeat([0, 1], 6)
    found = gradient_noise(norms, np.abs(cosines), updates)
    order = np.array(random.sample(range(12), 12))
    shuffled = gradient_noise(norms[order], np.abs(cosines)[order], updates[order])
    assert (shuffled.mean_square, shuffled.spread) == (found.mean_square, found.spread)
    assert shuffled.snr_interval() == found.snr_interval()
    scaled = gradient_noise(factor * norms, np.abs(cosines), updates)
    assert scaled.snr == pytest.approx(found.snr, rel=1e-9)
    assert scaled.noise_scale_interval() == pytest.approx(found.noise_scale_interval(), rel=1e-6)


def test_a_batch_of_small_updates_pools_them():
    parts = [draw(seed, 4) for seed in range(5)]
    columns = [norms_and_cosines(part) for part in parts]
    norms, cosines = (np.concatenate(column) for column in zip(*columns, strict=True))
    found = gradient_noise(norms, cosines, np.repeat(range(5), 4))
    signal, spread = np.mean([slow_moments(part) for part in parts], axis=0)
    assert found.mean_square == pytest.approx(signal)
    assert found.spread == pytest.approx(spread)
    assert found.snr == pytest.approx(4 * signal / spread), "of one update"
    assert found.updates == 5


@pytest.mark.parametrize("n", [3, 64])
def test_equal_gradients_have_no_noise(n):
    found = gradient_noise(np.full(n, 0.3), np.ones(n))
    assert found.mean_square == pytest.approx(0.09)
    assert found.spread == found.noise_scale == 0.0
    assert found.snr == math.inf
    with pytest.raises(EstimatorInputError, match="do not differ"):
        found.snr_interval()


@pytest.mark.parametrize("n", [4, 100])
def test_orthogonal_gradients_show_no_common_direction(n):
    found = gradient_noise(*norms_and_cosines(2 * np.eye(n)))
    assert found.mean_square == pytest.approx(0.0, abs=1e-12)
    assert found.spread == pytest.approx(4.0)
    assert found.snr == pytest.approx(0.0, abs=1e-9)


def test_gradients_that_cancel_are_not_resolved():
    gradients = np.array([[1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0], [0.1, 0.1]])
    found = gradient_noise(*norms_and_cosines(gradients))
    assert found.mean_square < 0
    assert found.noise_scale == math.inf
    low, high = found.snr_interval()
    assert low < found.snr < high
    assert found.noise_scale_interval()[1] == math.inf


def test_one_gradient_beside_zeros_has_no_interval():
    found = gradient_noise([0.0, 2.0, 0.0, 0.0], [math.nan, 1.0, math.nan, 0.0])
    assert found.snr == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(EstimatorInputError, match="without one of the rows"):
        found.snr_interval()


@pytest.mark.parametrize("dimension", [3, 200])
@pytest.mark.parametrize("per_row", [0.0, 1 / 16, 1.0])
def test_gaussian_gradients_are_measured_without_bias(dimension, per_row):
    rng = np.random.default_rng(7)
    mean = np.full(dimension, math.sqrt(per_row))
    found = [
        gradient_noise(*norms_and_cosines(mean + rng.normal(size=(16, dimension))))
        for _ in range(300)
    ]
    for values, true in (
        ([f.mean_square for f in found], per_row * dimension),
        ([f.spread for f in found], dimension),
    ):
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values) - true) < 4 * error
    held = [low <= 16 * per_row <= high for low, high in (f.snr_interval(0.9) for f in found)]
    assert np.mean(held) > 0.8


def test_pairs_of_a_group_lift_the_signal_as_the_docstring_says():
    """A bandit of six arms, groups of four, one prompt: E over pairs within a group."""
    rng = np.random.default_rng(3)
    k, p, rewards = 4, np.array([0.3, 0.25, 0.2, 0.15, 0.06, 0.04]), rng.normal(size=6)
    actions = rng.choice(6, p=p, size=(100_000, k))
    advantage = rewards[actions] - rewards[actions].mean(axis=1, keepdims=True)
    terms = advantage[..., None] * (np.eye(6)[actions] - p)
    pairs = (terms.sum(axis=1) ** 2).sum(axis=1) - (terms**2).sum(axis=(1, 2))
    pairs /= k * (k - 1)
    own = (p * rewards) @ (np.eye(6) - p)
    expected = (1 - 2 / k + 2 / k**2) * own @ own
    assert pairs.mean() == pytest.approx(expected, abs=4 * pairs.std() / math.sqrt(pairs.size))
    assert expected > (1 - 1 / k) ** 2 * own @ own


@pytest.mark.parametrize(
    ("norms", "cosines", "updates", "why"),
    [
        ([], [], None, "no values"),
        ([1.0, 1.0], [1.0, 1.0], None, "one has 2 rows"),
        ([1.0] * 4, [1.0] * 4, [0, 0, 0, 1], "one has 1 rows"),
        ([0.0] * 3, [0.0] * 3, None, "all are zero"),
        ([1.0, -1.0, 1.0], [1.0] * 3, None, "negative"),
        ([1.0, math.nan, 1.0], [1.0] * 3, None, "NaN"),
        ([1.0] * 3, [1.0, math.nan, 1.0], None, "cosines: NaN"),
        ([1.0] * 3, [1.0, 1.2, 1.0], None, "outside"),
        ([1.0] * 3, [-0.5, -0.5, 0.1], None, "not all rows"),
        ([1.0] * 3, [1.0] * 2, None, "shapes"),
        ([1.0] * 3, [1.0] * 3, [0, 1], "shapes"),
        ([1.0] * 3, [1.0] * 3, [0.0, None, 1.0], "missing"),
    ],
)
def test_what_is_no_update_is_refused(norms, cosines, updates, why):
    with pytest.raises(EstimatorInputError, match=why):
        gradient_noise(norms, cosines, updates)


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_lies_between_zero_and_one(level):
    with pytest.raises(EstimatorInputError, match="level"):
        gradient_noise(*norms_and_cosines(draw(0))).snr_interval(level)
