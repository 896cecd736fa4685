import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import (
    LOG_RATIO_EDGES_V1,
    LOG_RATIO_RELATIVE_ERROR_V1,
    LOG_RATIO_SLOTS_V1,
    histogram_percentile,
    log_ratio_histogram,
    merge_histograms,
    nonfinite_tokens,
)

FAST = settings(deadline=None, derandomize=True, max_examples=60)
TOKENS = st.lists(st.floats(allow_nan=True) | st.floats(-5, 5) | st.just(0.0), max_size=40)
IN_RANGE = st.lists(st.floats(1e-6, 99.9), min_size=1, max_size=40)


def slow_histogram(values):
    counts = [0] * LOG_RATIO_SLOTS_V1
    for value in values:
        if not math.isfinite(value):
            counts[-1] += 1
        else:
            counts[sum(edge <= abs(value) for edge in LOG_RATIO_EDGES_V1.tolist())] += 1
    return counts


def test_edges_are_fixed_for_ever():
    assert LOG_RATIO_EDGES_V1.shape == (257,)
    assert LOG_RATIO_SLOTS_V1 == 259
    assert LOG_RATIO_EDGES_V1[::32].tolist() == [float(f"1e{k}") for k in range(-6, 3)]
    assert LOG_RATIO_EDGES_V1[[1, 100, 207]].tolist() == [
        1.0746078283213176e-06,
        0.0013335214321633241,
        2.942727176209282,
    ]
    assert np.allclose(LOG_RATIO_EDGES_V1, 10.0 ** (np.arange(-192, 65) / 32), rtol=1e-14, atol=0)
    ratios = LOG_RATIO_EDGES_V1[1:] / LOG_RATIO_EDGES_V1[:-1]
    assert np.allclose(ratios - 1, LOG_RATIO_RELATIVE_ERROR_V1, rtol=1e-10)
    with pytest.raises(ValueError, match="read-only"):
        LOG_RATIO_EDGES_V1[0] = 0.0


def test_slots():
    counts = log_ratio_histogram([0.0, -1e-7, 1e-6, -0.1, 1e2, -3e5, math.nan, math.inf, -math.inf])
    assert counts.dtype == np.int64
    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[1 + 5 * 32] == 1
    assert counts[-2] == 2
    assert counts[-1] == nonfinite_tokens(counts) == 3
    assert counts.sum() == 9


def test_no_tokens_and_any_shape_or_precision():
    assert log_ratio_histogram([]).tolist() == [0] * LOG_RATIO_SLOTS_V1
    tokens = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(log_ratio_histogram(tokens), log_ratio_histogram(tokens.ravel().tolist()))


@FAST
@given(TOKENS, st.randoms(use_true_random=False))
def test_agrees_with_plain_loops(tokens, random):
    counts = log_ratio_histogram(tokens)
    assert counts.tolist() == slow_histogram(tokens)
    assert np.array_equal(log_ratio_histogram(random.sample(tokens, len(tokens))), counts)


@FAST
@given(st.lists(TOKENS, max_size=5))
def test_merged_parts_equal_the_whole(parts):
    merged = merge_histograms(*[log_ratio_histogram(part) for part in parts])
    whole = log_ratio_histogram([x for part in parts for x in part])
    assert np.array_equal(merged, whole)
    assert np.array_equal(merge_histograms(merged.tolist()), merged)


@FAST
@given(IN_RANGE, st.sampled_from([0, 1, 5, 25, 50, 75, 90, 95, 99, 99.9, 100]))
def test_percentile_is_within_a_bin_of_the_exact_one(tokens, q):
    exact = float(np.percentile(tokens, q, method="inverted_cdf"))
    estimate = histogram_percentile(log_ratio_histogram(tokens), q)
    assert abs(estimate - exact) <= LOG_RATIO_RELATIVE_ERROR_V1 * exact * (1 + 1e-9)


@FAST
@given(IN_RANGE)
def test_percentile_grows_with_q(tokens):
    counts = log_ratio_histogram(tokens)
    values = [histogram_percentile(counts, q) for q in range(0, 101, 5)]
    assert values == sorted(values)


def test_percentile_of_a_large_sample():
    tokens = np.random.default_rng(0).normal(scale=0.05, size=100_000)
    for q in (50, 95, 99):
        exact = np.percentile(np.abs(tokens), q)
        estimate = histogram_percentile(log_ratio_histogram(tokens), q)
        assert estimate == pytest.approx(exact, rel=0.01)


def test_percentile_outside_the_bins():
    assert histogram_percentile(log_ratio_histogram([0.0] * 20), 95) == 0.0
    assert histogram_percentile(log_ratio_histogram([1e9]), 95) == 100.0


def test_nonfinite_tokens_do_not_move_a_percentile():
    clean = log_ratio_histogram([0.1, 0.2, 0.3])
    dirty = merge_histograms(clean, log_ratio_histogram([math.nan] * 50))
    assert histogram_percentile(dirty, 50) == histogram_percentile(clean, 50)


@pytest.mark.parametrize("tokens", [[], [math.nan, math.inf]])
def test_no_finite_token_has_no_percentile(tokens):
    with pytest.raises(EstimatorInputError, match="no finite tokens"):
        histogram_percentile(log_ratio_histogram(tokens), 95)


@pytest.mark.parametrize("q", [-1, 100.5, math.nan])
def test_q_outside_its_range_is_refused(q):
    with pytest.raises(EstimatorInputError, match="q"):
        histogram_percentile(log_ratio_histogram([1.0]), q)


@pytest.mark.parametrize(
    "bad", [[1, 2, 3], np.zeros(LOG_RATIO_SLOTS_V1), np.full(LOG_RATIO_SLOTS_V1, -1), [], "x"]
)
def test_what_is_no_histogram_is_refused(bad):
    for use in (merge_histograms, nonfinite_tokens, lambda c: histogram_percentile(c, 50)):
        with pytest.raises(EstimatorInputError, match="counts"):
            use(bad)


def test_what_is_no_log_ratio_is_refused():
    with pytest.raises(EstimatorInputError, match="log_ratios"):
        log_ratio_histogram(["a"])
