import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import entropy, token_mean

FAST = settings(deadline=None, derandomize=True, max_examples=60)
LOGITS = st.lists(st.floats(-40, 40) | st.just(-math.inf), min_size=1, max_size=20).filter(
    lambda logits: max(logits) > -math.inf
)
TOKENS = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.integers(0, 10_000)), min_size=1, max_size=20
).filter(lambda rows: any(count for _, count in rows))


def slow_entropy(logits):
    with localcontext() as context:
        context.prec = 60
        weights = [Decimal(x).exp() for x in logits if x != -math.inf]
        total = sum(weights)
        return float(-sum(w / total * (w / total).ln() for w in weights))


@pytest.mark.parametrize("k", [1, 2, 17, 50_000])
def test_uniform_distribution_gives_log_k(k):
    assert entropy(np.full(k, -math.log(k))) == pytest.approx(math.log(k), rel=1e-12)


def test_closed_forms():
    assert entropy([0.0, -math.inf, -math.inf]) == 0.0
    p = np.array([0.5, 0.25, 0.25])
    assert entropy(np.log(p)) == pytest.approx(1.5 * math.log(2))


def test_shape_and_axis():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert entropy(logits).shape == (3, 4)
    assert entropy(logits, axis=0).shape == (4, 5)
    assert np.array_equal(entropy(logits, axis=1), entropy(np.moveaxis(logits, 1, -1)))
    assert np.array_equal(entropy(logits)[1], entropy(logits[1]))


def test_float32_log_probabilities():
    logits = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert entropy(log_probs) == pytest.approx(entropy(logits.astype(np.float64)), rel=1e-6)


@FAST
@given(LOGITS)
def test_agrees_with_decimal_arithmetic(logits):
    assert entropy(logits) == pytest.approx(slow_entropy(logits), rel=1e-11, abs=1e-15)


@FAST
@given(LOGITS, st.sampled_from([-1e4, 1e4]), st.randoms(use_true_random=False))
def test_invariants(logits, shift, random):
    value = float(entropy(logits))
    assert 0.0 <= value <= math.log(len(logits))
    assert entropy(random.sample(logits, len(logits))) == value
    assert entropy([x + shift for x in logits]) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    "bad", [[], [math.nan, 0.0], [math.inf, 0.0], [-math.inf], 0.0, np.zeros((2, 0))]
)
def test_what_is_no_distribution_is_refused(bad):
    with pytest.raises(EstimatorInputError):
        entropy(bad)


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(EstimatorInputError, match="axis"):
        entropy(np.zeros((2, 3)), axis=2)


def test_long_trajectories_count_more():
    assert token_mean([1.0, 4.0], [300, 100]) == pytest.approx(1.75)
    assert token_mean([1.0, 99.0], [5, 0]) == 1.0


@FAST
@given(TOKENS, st.randoms(use_true_random=False))
def test_token_mean_agrees_with_exact_arithmetic(rows, random):
    exact = sum(Fraction(v) * c for v, c in rows) / sum(c for _, c in rows)
    size = max(abs(v) for v, _ in rows)
    value = token_mean(*zip(*rows, strict=True))
    assert value == pytest.approx(float(exact), rel=1e-13, abs=1e-13 * size + 1e-300)
    shuffled = random.sample(rows, len(rows))
    assert token_mean(*zip(*shuffled, strict=True)) == value
    used = [v for v, c in rows if c]
    assert min(used) <= value <= max(used)


def test_token_mean_of_groups_equals_that_of_the_whole():
    rng = np.random.default_rng(0)
    values, counts = rng.normal(size=30), rng.integers(1, 50, size=30)
    parts = [token_mean(values[i : i + 10], counts[i : i + 10]) for i in (0, 10, 20)]
    sizes = [counts[i : i + 10].sum() for i in (0, 10, 20)]
    assert token_mean(parts, sizes) == pytest.approx(token_mean(values, counts), rel=1e-12)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], []),
        ([1.0], [0]),
        ([1.0], [-1]),
        ([1.0, 2.0], [1]),
        ([math.nan], [1]),
        ([1.0], [math.inf]),
    ],
)
def test_token_mean_refuses_what_has_no_mean(values, counts):
    with pytest.raises(EstimatorInputError):
        token_mean(values, counts)
