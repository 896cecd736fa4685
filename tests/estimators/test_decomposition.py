import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import ess, gini, top_share
from mmhealth.estimators.decomposition import (
    by_slice,
    chance_of,
    cross,
    gini_parts,
    square_parts,
    sum_parts,
    top_parts,
)

FAST = settings(deadline=None, derandomize=True, max_examples=80)
LOGS = st.floats(-700, 700) | st.just(-math.inf) | st.sampled_from([0.0, 1.0])
ROWS = st.lists(LOGS, min_size=1, max_size=40).filter(lambda logs: max(logs) > -math.inf)
FEW = st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any)
"""Small whole numbers, so that many are tied."""
RANDOM = st.randoms(use_true_random=False)
PARTS = [sum_parts, square_parts, gini_parts, top_parts]


def values_of(logs):
    return np.exp(np.array(logs) - max(logs))


@FAST
@given(ROWS, RANDOM, st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_what_the_slices_hold_sums_to_the_whole(logs, random, fraction):
    slices = np.array([random.randrange(5) for _ in logs])
    values = values_of(logs)
    wholes = [1.0, 1.0, gini(values), top_share(values, fraction)]
    all_parts = [part(logs) for part in PARTS[:3]] + [top_parts(logs, fraction)]
    for parts, whole in zip(all_parts, wholes, strict=True):
        assert by_slice(parts, slices, 5).sum() == pytest.approx(whole, rel=0, abs=1e-12)


@FAST
@given(ROWS)
def test_squares_are_shares_of_one_over_the_ess(logs):
    squared = sum_parts(logs) ** 2
    assert square_parts(logs) / ess(logs) == pytest.approx(squared, rel=1e-9, abs=1e-300)


def over_all_orders(values, part_of_rank):
    """Each row's part, averaged over every order in which equal rows may be ranked."""
    n = len(values)
    orders = [o for o in permutations(range(n)) if [values[i] for i in o] == sorted(values)]
    parts = np.zeros(n)
    for order in orders:
        for rank, row in enumerate(order, 1):
            parts[row] += part_of_rank(rank, values[row]) / len(orders)
    return parts


@FAST
@given(FEW)
def test_gini_parts_are_the_definition_averaged_over_the_orders_of_equal_rows(values):
    n, total = len(values), sum(values)
    expected = over_all_orders(values, lambda rank, x: (2 * rank - n - 1) * x / (n * total))
    with np.errstate(divide="ignore"):
        assert gini_parts(np.log(values)) == pytest.approx(expected, abs=1e-14)


@FAST
@given(FEW, st.floats(0.01, 1.0))
def test_top_parts_are_the_definition_averaged_over_the_orders_of_equal_rows(values, fraction):
    n, total = len(values), sum(values)

    def part(rank, x):
        """Rows are taken from the largest on, until a fraction of them is; the last in part."""
        return min(max(fraction * n - (n - rank), 0), 1) * x / total

    with np.errstate(divide="ignore"):
        found = top_parts(np.log(values), fraction)
    assert found == pytest.approx(over_all_orders(values, part), abs=1e-14)


def test_parts_by_hand():
    logs = np.log([1.0, 1.0, 2.0, 4.0])
    assert sum_parts(logs) == pytest.approx([1 / 8, 1 / 8, 1 / 4, 1 / 2])
    assert square_parts(logs) == pytest.approx([1 / 22, 1 / 22, 4 / 22, 16 / 22])
    assert gini_parts(logs) == pytest.approx([-2 / 32, -2 / 32, 2 / 32, 12 / 32])
    assert top_parts(logs, 0.5) == pytest.approx([0, 0, 1 / 4, 1 / 2])
    assert top_parts(logs, 0.75) == pytest.approx([1 / 16, 1 / 16, 1 / 4, 1 / 2])


@FAST
@given(ROWS, st.floats(-1e4, 1e4))
def test_scale_changes_nothing(logs, shift):
    for part in PARTS:
        shifted = part(np.array(logs) + shift)
        assert shifted == pytest.approx(part(logs), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("part", PARTS)
def test_equal_rows_get_equal_parts_wherever_they_stand(part):
    logs = np.random.default_rng(0).integers(0, 4, 60).astype(float)
    parts = part(logs)
    for value in np.unique(logs):
        assert len(set(parts[logs == value])) == 1


@FAST
@given(ROWS, RANDOM)
def test_the_order_of_the_rows_changes_no_bit(logs, random):
    slices = np.array([random.randrange(3) for _ in logs])
    order = np.array(random.sample(range(len(logs)), len(logs)))
    for part in PARTS:
        parts, shuffled = part(logs), part(np.array(logs)[order])
        assert (shuffled == parts[order]).all()
        assert (by_slice(shuffled, slices[order], 3) == by_slice(parts, slices, 3)).all()
    parts = square_parts(logs)
    assert chance_of(parts, [1], [0.5]) == chance_of(parts[order], [1], [0.5])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], [-math.inf], [[0.0]], ["a"]])
def test_rows_that_cannot_be_decomposed_are_refused(part, bad):
    with pytest.raises(EstimatorInputError):
        part(bad)


@pytest.mark.parametrize("slices", [[0, 1], [0, 1, 3], [-1, 0, 1], [0.0, 1.0, 2.0]])
def test_slices_that_do_not_fit_are_refused(slices):
    with pytest.raises(EstimatorInputError):
        by_slice([0.2, 0.3, 0.5], slices, 3)


def test_a_top_fraction_outside_0_to_1_is_refused():
    with pytest.raises(EstimatorInputError, match="fraction"):
        top_parts([0.0], 0.0)


@FAST
@given(st.lists(st.floats(0, 1) | st.just(0.0), min_size=1, max_size=9), st.data(), st.floats(0, 1))
def test_chance_bounds_what_all_choices_of_rows_give(parts, data, threshold):
    rows = data.draw(st.integers(0, len(parts)))
    held = threshold * sum(parts)
    sums = [math.fsum(choice) for choice in combinations(parts, rows)]
    exact = sum(total >= held * (1 + 1e-9) for total in sums) / len(sums)
    assert chance_of(parts, [rows], [held])[0] >= exact - 1e-9


def test_chance_of_one_row_that_holds_everything_is_the_share_of_the_rows():
    parts = np.zeros(64)
    parts[5] = 1.0
    assert chance_of(parts, [1, 16, 64], [1.0, 1.0, 1.0]) == pytest.approx([1 / 64, 1 / 4, 1])


def test_chance_of_no_more_than_the_share_of_the_rows_is_1():
    parts = np.random.default_rng(1).random(3000)
    parts /= parts.sum()
    assert chance_of(parts, [300, 1500], [0.1, 0.5]) == pytest.approx([1, 1])
    assert chance_of(np.zeros(4), [2], [0.0]) == [1.0]


@pytest.mark.parametrize(("n", "tightness"), [(100, 0.01), (4000, 0.11)])
def test_chance_of_many_rows_falls_as_it_should(n, tightness):
    """A tenth of equal rows taken at random holds the double: about exp(-n KL(0.2 | 0.1))."""
    parts = np.where(np.arange(n) < n / 2, 2 / n, 0.0)
    [bound] = chance_of(parts, [n // 10], [0.2])
    p, r = 0.2, 0.1
    kl = p * math.log(p / r) + (1 - p) * math.log((1 - p) / (1 - r))
    assert math.log(bound) == pytest.approx(-kl * n / 2, rel=tightness)


@pytest.mark.parametrize(("rows", "held"), [([-1], [0.1]), ([3], [0.1]), ([1, 1], [0.1])])
def test_rows_that_cannot_be_chosen_are_refused(rows, held):
    with pytest.raises(EstimatorInputError, match="rows"):
        chance_of([0.5, 0.5], rows, held)
    with pytest.raises(EstimatorInputError, match="negative"):
        chance_of([-0.5, 1.5], [1], [0.1])


@FAST
@given(ROWS, RANDOM)
def test_cells_against_loops(logs, random):
    parts = square_parts(logs)
    first, second = (np.array([random.randrange(3) for _ in logs]) for _ in range(2))
    cells = cross(parts, first, second)
    assert cells.rows.sum() == len(logs)
    for a, b, rows, held, explained in zip(
        cells.first, cells.second, cells.rows, cells.held, cells.explained, strict=True
    ):
        inside = (first == a) & (second == b)
        evenly = [parts[x].sum() * inside.sum() / x.sum() for x in (first == a, second == b)]
        assert rows == inside.sum() > 0
        assert held == pytest.approx(parts[inside].sum(), abs=1e-12)
        assert explained == pytest.approx(max(evenly), abs=1e-12)
