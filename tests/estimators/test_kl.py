import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import kl_estimate, kl_terms

FAST = settings(deadline=None, derandomize=True, max_examples=60)
KINDS = ["k1", "k2", "k3"]
RATIOS = st.lists(st.floats(-30, 30) | st.floats(-1e-2, 1e-2), min_size=1, max_size=30).map(
    lambda ratios: [x if abs(x) > 1e-12 else 0.0 for x in ratios]  # what 60 digits can resolve
)


def slow_kl(log_ratio, kind):
    with localcontext() as context:
        context.prec = 60
        x = [Decimal(v) for v in log_ratio]
        terms = {"k1": [-v for v in x], "k2": [v * v / 2 for v in x]}
        terms["k3"] = [v.exp() - 1 - v for v in x]
        return float(sum(terms[kind]) / len(x))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_distributions_have_no_divergence(kind):
    assert kl_estimate(np.zeros(7), kind) == 0.0


def test_closed_forms():
    assert kl_estimate([math.log(2)], "k1") == pytest.approx(-math.log(2))
    assert kl_estimate([2.0, -2.0], "k2") == pytest.approx(2.0)
    assert kl_estimate([math.log(2)]) == pytest.approx(1 - math.log(2))
    assert kl_terms(np.array([[0.0, 1.0]])) == pytest.approx(np.array([[0.0, math.e - 2]]))


def test_sign_convention_on_a_two_point_law():
    # samples from q, log_ratio = log p - log q: k1 and k3 average to KL(q || p)
    q, p = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    expected = float((q * np.log(q / p)).sum())
    samples = np.log(p / q)[[0, 0, 0, 1]]
    assert kl_estimate(samples, "k1") == pytest.approx(expected)
    assert kl_estimate(samples, "k3") == pytest.approx(expected)
    assert expected != pytest.approx(float((p * np.log(p / q)).sum()))


def test_gaussians():
    x = np.random.default_rng(0).normal(size=200_000)  # q = N(0, 1), p = N(0.3, 1)
    log_ratio = 0.3 * x - 0.045
    for kind in KINDS:
        assert kl_estimate(log_ratio, kind) == pytest.approx(0.045, rel=0.05)


@FAST
@given(RATIOS, st.sampled_from(KINDS))
def test_agrees_with_decimal_arithmetic(log_ratio, kind):
    size = max(map(abs, log_ratio)) if kind == "k1" else 0.0
    expected = slow_kl(log_ratio, kind)
    assert kl_estimate(log_ratio, kind) == pytest.approx(
        expected, rel=1e-12, abs=1e-14 * size + 1e-300
    )


@pytest.mark.parametrize("x", [1e-12, 1e-8, -1e-5, 9.99e-3, 1.001e-2, -0.2])
def test_small_divergences_keep_their_digits(x):
    assert kl_estimate([x]) == pytest.approx(slow_kl([x], "k3"), rel=1e-12)


@FAST
@given(RATIOS, st.sampled_from(KINDS), st.randoms(use_true_random=False))
def test_invariants(log_ratio, kind, random):
    value = kl_estimate(log_ratio, kind)
    assert kl_estimate(random.sample(log_ratio, len(log_ratio)), kind) == value
    if kind != "k1":
        assert value >= 0.0
    assert kl_estimate(np.reshape(log_ratio, (1, -1)), kind) == value


@FAST
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=10))
def test_any_finite_ratio_gives_a_number(log_ratio):
    for kind in KINDS:
        assert not math.isnan(kl_estimate(log_ratio, kind))


def test_beyond_float64_is_infinite():
    assert kl_estimate([0.0, 800.0], "k3") == math.inf
    assert kl_estimate([1e200], "k2") == math.inf
    assert kl_estimate([-800.0], "k3") == pytest.approx(799.0)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], [-math.inf], ["a"]])
def test_what_is_no_log_ratio_is_refused(bad):
    with pytest.raises(EstimatorInputError, match="log_ratio"):
        kl_estimate(bad)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(EstimatorInputError, match="k4"):
        kl_estimate([0.0], "k4")
