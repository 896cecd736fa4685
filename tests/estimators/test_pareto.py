import contextlib
import math

import numpy as np
import pytest
from arviz_stats.base import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import khat_threshold, pareto_khat

FAST = settings(deadline=None, derandomize=True, max_examples=40)
SIZES = [25, 26, 64, 128, 224, 225, 226, 227, 512, 1000, 5000]
LAWS = {
    "narrow": lambda rng, n: 1e-3 * rng.normal(size=n),
    "log-normal": lambda rng, n: rng.normal(size=n),
    "wide log-normal": lambda rng, n: 10 * rng.normal(size=n),
    "pareto": lambda rng, n: rng.exponential(size=n),
    "uniform": lambda rng, n: np.log(rng.random(n)),
    "bounded": lambda rng, n: np.log(rng.beta(2, 1, size=n)),
    "cauchy": lambda rng, n: np.log(np.abs(rng.standard_cauchy(n))),
    "some zeros": lambda rng, n: np.where(rng.random(n) < 0.2, -800.0, rng.normal(size=n)),
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("law", LAWS)
def test_agrees_with_arviz(law, n):
    for seed in range(3):
        logs = LAWS[law](np.random.default_rng(seed), n)
        _, expected = array_stats.psislw(-logs)  # it takes log likelihoods and negates them
        assert pareto_khat(logs) == pytest.approx(float(expected), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3, 0.7, 1.5, 4.0])
def test_recovers_the_shape_of_a_generalised_pareto(shape):
    n = 20_000
    quantiles = stats.genpareto.ppf((np.arange(n) + 0.5) / n, shape)
    tail = math.isqrt(9 * n)
    expected = (tail * shape + 10 * 0.5) / (tail + 10)  # the prior: ten weights with k = 0.5
    assert pareto_khat(np.log(quantiles)) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("spread", [100.0, 1e3, 1e6, 1e150, 1e307])
def test_weights_beyond_float64_have_a_heavy_tail(spread):
    # exp(-s) of the second largest weight is 0 in float64, and yet the tail must not look empty
    logs = spread * np.random.default_rng(0).normal(size=1000)
    assert 10 < pareto_khat(logs) < math.inf


def test_fit_continues_smoothly_where_float64_ends():
    z = np.random.default_rng(5).normal(size=400)
    slopes = [pareto_khat(s * z) / s for s in (200.0, 250.0, 300.0, 400.0, 800.0)]
    assert max(slopes) / min(slopes) < 1.05


@FAST
@given(
    st.lists(st.floats(-20, 20), min_size=25, max_size=80, unique_by=lambda x: round(x, 3)),
    st.sampled_from([-1e4, 1e4]),
    st.randoms(use_true_random=False),
)
def test_invariants(logs, shift, random):
    khat = pareto_khat(logs)
    assert math.isfinite(khat)
    assert pareto_khat(random.sample(logs, len(logs))) == khat
    assert pareto_khat([x + shift for x in logs]) == pytest.approx(khat, abs=1e-5)


@FAST
@given(
    st.lists(
        st.floats(allow_nan=False, max_value=1e308) | st.sampled_from([0.0, 1.0, -math.inf]),
        min_size=25,
        max_size=60,
    )
)
def test_any_log_weights_give_a_finite_shape_or_a_reason(logs):
    with contextlib.suppress(EstimatorInputError):
        assert math.isfinite(pareto_khat(logs))


@pytest.mark.parametrize("level", [0.0, 1e4, -math.inf])
def test_constant_weights_have_no_tail(level):
    with pytest.raises(EstimatorInputError, match="all equal"):
        pareto_khat(np.full(100, level))


def test_rounding_noise_is_no_tail():
    noise = np.random.default_rng(0).normal(size=100) * 1e-13
    with pytest.raises(EstimatorInputError, match="all equal"):
        pareto_khat(1e4 + noise)


def test_tied_weights_have_no_tail():
    logs = np.zeros(100)
    logs[:3] = [1.0, 2.0, 3.0]
    with pytest.raises(EstimatorInputError, match="tied"):
        pareto_khat(logs)


def test_few_ties_do_no_harm():
    logs = np.round(np.random.default_rng(2).normal(size=1000), 1)
    _, expected = array_stats.psislw(-logs)
    assert pareto_khat(logs) == pytest.approx(float(expected), rel=1e-8)


def test_too_few_weights():
    with pytest.raises(EstimatorInputError, match="24 rows"):
        pareto_khat(np.arange(24.0))


@pytest.mark.parametrize("bad", [[], [math.nan] * 30, [math.inf] * 30, np.zeros((5, 10))])
def test_what_is_no_log_weight_is_refused(bad):
    with pytest.raises(EstimatorInputError, match="log_weights"):
        pareto_khat(bad)


@pytest.mark.parametrize(
    ("n", "expected"), [(10, 0.0), (100, 0.5), (320, 0.6), (1000, 0.67), (2200, 0.7), (10**6, 0.7)]
)
def test_threshold_of_the_paper(n, expected):
    assert khat_threshold(n) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("n", [-1, 0, 1, 2.5])
def test_threshold_needs_a_number_of_weights(n):
    with pytest.raises(EstimatorInputError):
        khat_threshold(n)
