import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import difference_interval, newcombe_interval, wilson_interval

FAST = settings(deadline=None, derandomize=True, max_examples=60)
COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))

NEWCOMBE_1998 = [
    ((56, 70, 48, 80), (0.0524, 0.3339)),
    ((9, 10, 3, 10), (0.1705, 0.8090)),
    ((6, 7, 2, 7), (0.0582, 0.8062)),
    ((5, 56, 0, 29), (-0.0381, 0.1926)),
    ((0, 10, 0, 20), (-0.1611, 0.2775)),
    ((0, 10, 0, 10), (-0.2775, 0.2775)),
    ((10, 10, 0, 20), (0.6791, 1.0)),
    ((10, 10, 0, 10), (0.6075, 1.0)),
]
"""Table II of the paper, method 10."""


@pytest.mark.parametrize(("counts", "expected"), NEWCOMBE_1998)
def test_the_papers_own_table(counts, expected):
    assert newcombe_interval(*counts) == pytest.approx(expected, abs=6e-5)


@FAST
@given(COUNTS, COUNTS, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_it_holds_the_difference_and_turns_round_with_it(first, second, confidence):
    low, high = newcombe_interval(*first, *second, confidence)
    difference = first[0] / first[1] - second[0] / second[1]
    assert -1.0 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1.0
    assert newcombe_interval(*second, *first, confidence) == pytest.approx((-high, -low))


@FAST
@given(COUNTS, COUNTS)
def test_it_is_the_square_and_add_of_the_wilson_intervals(first, second):
    (p, q), n = (first[0] / first[1], second[0] / second[1]), 2
    (l1, u1), (l2, u2) = wilson_interval(*first), wilson_interval(*second)
    expected = (
        p - q - math.sqrt((p - l1) ** n + (u2 - q) ** n),
        p - q + math.sqrt((u1 - p) ** n + (q - l2) ** n),
    )
    assert newcombe_interval(*first, *second) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("args", [(0, 0, 1, 2), (1, 2, 0, 0), (3, 2, 1, 2), (1, 2, -1, 2)])
def test_what_has_no_interval_is_refused(args):
    with pytest.raises(EstimatorInputError):
        newcombe_interval(*args)


@FAST
@given(COUNTS, COUNTS)
def test_the_general_form_gives_newcombes_interval(one, other):
    ends = [wilson_interval(*counts) for counts in (one, other)]
    rates = [won / n for won, n in (one, other)]
    low, high = difference_interval(rates[0], ends[0], rates[1], ends[1])
    clipped = max(low, -1.0), min(high, 1.0)
    assert newcombe_interval(*one, *other) == pytest.approx(clipped)
    assert low <= rates[0] - rates[1] <= high


def test_a_difference_to_a_known_value_has_the_width_of_the_one():
    assert difference_interval(0.5, (0.4, 0.7), 0.3, (0.3, 0.3)) == pytest.approx((0.1, 0.4))
