import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmhealth.figures.decimation import decimate, decimate_window

CURVES = hnp.arrays(
    np.float64,
    st.integers(0, 400),
    elements=st.floats(-1e6, 1e6) | st.just(float("nan")),
)


@given(CURVES, st.integers(8, 60))
def test_few_points_ascending_with_both_ends(y, points):
    kept = decimate(y, points)
    assert len(kept) <= max(points, 0)
    assert (np.diff(kept) > 0).all()
    if len(y):
        assert kept[0] == 0
        assert kept[-1] == len(y) - 1


@given(CURVES, st.integers(8, 60))
def test_extremes_and_gaps_survive(y, points):
    kept = y[decimate(y, points)]
    finite = y[np.isfinite(y)]
    assert np.isnan(kept).any() == np.isnan(y).any()
    if finite.size:
        assert np.nanmin(kept) == finite.min()
        assert np.nanmax(kept) == finite.max()


@given(st.integers(0, 9_999), st.sampled_from([-5.0, 5.0]))
def test_every_single_spike_survives(where, height):
    y = np.sin(np.arange(10_000) / 300)
    y[where] = height
    kept = decimate(y, 1000)
    assert where in kept
    assert len(kept) <= 1000


def test_every_stretch_keeps_its_own_spike():
    y = np.zeros(9_000)
    spikes = np.arange(10, 9_000, 90)
    y[spikes] = 1.0
    assert set(spikes) <= set(decimate(y, 1000))


def test_a_short_curve_is_left_alone():
    assert decimate(np.array([3.0, 1.0, 2.0]), 1000).tolist() == [0, 1, 2]


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="8 are needed"):
        decimate(np.zeros(10), 3)


@given(st.tuples(st.integers(-100, 11_000), st.integers(-100, 11_000)))
def test_a_window_has_full_detail_and_neighbours_on_both_sides(window):
    x = np.arange(10_000)
    kept = decimate_window(x, np.sin(x), window, 1000)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= 1500
    low, high = sorted(window)
    inside = x[(x >= low) & (x <= high)]
    if 0 < len(inside) < 990:
        assert set(inside) <= set(kept)
        assert {max(inside[0] - 1, 0), min(inside[-1] + 1, 9_999)} <= set(kept)
