"""The quantile sketch: within its guarantee, and the same however the values were cut."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.sketch import ALPHA, Sketch, sketch

SLACK = 1e-9
"""Rounding of the logarithm at the ends of buckets."""
FINITE = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
ANY = st.lists(st.floats(allow_subnormal=False), max_size=60)


@given(st.lists(FINITE, min_size=1, max_size=80), st.floats(0, 1))
def test_a_quantile_is_that_of_the_sorted_values_within_its_error(
    values: list[float], q: float
) -> None:
    exact = sorted(values)[int(np.floor(q * (len(values) - 1)))]
    found = sketch(np.array(values)).quantile(q)
    assert found is not None
    assert abs(found - exact) <= (ALPHA + SLACK) * abs(exact)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.999, 1.0])
def test_it_agrees_with_numpy_on_many_values(q: float) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=5000), rng.lognormal(0, 4, 5000), np.zeros(99)])
    exact = np.quantile(values, q, method="lower")
    assert sketch(values).quantile(q) == pytest.approx(exact, rel=ALPHA + SLACK)


@given(ANY, ANY, ANY)
def test_merging_is_sketching_what_is_joined_in_any_order(
    one: list[float], two: list[float], three: list[float]
) -> None:
    a, b, c = (sketch(np.array(part, np.float64)) for part in (one, two, three))
    whole = sketch(np.array(one + two + three, np.float64)).as_json()
    for merged in (a.merge(b).merge(c), c.merge(a.merge(b)), b.merge(c).merge(a)):
        found = merged.as_json()
        assert {**found, "total": 0} == {**whole, "total": 0}


def test_a_sum_is_rounded_once_whatever_the_order() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0, 0.1, 0.2])
    assert sketch(values).total == sketch(values[::-1]).total == pytest.approx(2.3)
    assert sketch(np.full(4, -1e308)).total == -np.inf
    assert sketch(np.array([1e308, 1e308, -1e308])).total == 1e308


def test_what_is_no_finite_number_is_counted_apart() -> None:
    found = sketch(np.array([np.nan, np.inf, -np.inf, -np.inf, 0.0, 0.0, 3.0]))
    assert (found.nan, found.posinf, found.neginf) == (1, 1, 2)
    assert (found.count, found.zero, found.least, found.most) == (3, 2, 0.0, 3.0)
    assert found.quantile(0.5) == 0.0


def test_of_nothing_no_quantile_is_known() -> None:
    for values in ([], [np.nan, np.inf]):
        assert sketch(np.array(values)).quantile(0.5) is None


def test_the_greatest_numbers_are_within_the_error_too() -> None:
    values = np.array([8.3e307, 8.5e307, 8.7e307, 9e307, 1.7e308])
    for q in (0.25, 0.5, 0.75):
        exact = np.quantile(values, q, method="lower")
        assert sketch(values).quantile(q) == pytest.approx(exact, rel=ALPHA + SLACK)
        assert sketch(-values).quantile(1 - q) == pytest.approx(-exact, rel=ALPHA + SLACK)


def test_extreme_magnitudes_stay_within_what_was_seen() -> None:
    values = np.array([-1.7e308, -1e-320, 5e-324, 1.79e308, 1.79e308])
    found = [sketch(values).quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)]
    assert found[0] == -1.7e308
    assert found[3] == pytest.approx(1.79e308, rel=ALPHA)
    assert found == sorted(x for x in found if x is not None)


@given(ANY)
def test_it_is_read_back_from_json_as_it_was(values: list[float]) -> None:
    made = sketch(np.array(values, np.float64))
    assert Sketch.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_a_quantile_lies_between_zero_and_one() -> None:
    with pytest.raises(EstimatorInputError, match=r"1\.5"):
        sketch(np.ones(3)).quantile(1.5)
