import math
from itertools import chain, combinations, permutations, product

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
    for groups in (None, slices):
        bounds = chance_of(parts, slices % 2, 2, groups)
        again = None if groups is None else groups[order]
        assert (chance_of(parts[order], slices[order] % 2, 2, again) == bounds).all()


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


def at_least(sums, held):
    """How many of the sums are as much as is held."""
    return sum(total >= held * (1 + 1e-9) for total in sums) / len(sums)


@FAST
@given(st.lists(st.floats(0, 1) | st.just(0.0), min_size=1, max_size=9), RANDOM)
def test_chance_bounds_what_all_choices_of_rows_give(parts, random):
    slices = [random.randrange(3) for _ in parts]
    bounds = chance_of(parts, slices, 3)
    for i in range(3):
        sums = [math.fsum(choice) for choice in combinations(parts, slices.count(i))]
        held = math.fsum(x for x, place in zip(parts, slices, strict=True) if place == i)
        assert bounds[i] >= at_least(sums, held) - 1e-9


def dealt_anew(rows):
    """Every way to deal groups, lists of parts, to groups and within them to their rows."""
    for groups in permutations(rows):
        yield from product(*(list(permutations(group)) for group in groups))


@FAST
@given(st.sampled_from([(2, 3), (3, 2), (2, 2), (4, 1), (1, 4)]), st.data(), RANDOM)
def test_chance_bounds_what_all_deals_of_groups_and_of_their_rows_give(shape, data, random):
    groups, size = shape
    part = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
    parts = data.draw(st.lists(part, min_size=groups * size, max_size=groups * size))
    slices = [random.randrange(2) for _ in parts]
    rows = [parts[first : first + size] for first in range(0, len(parts), size)]
    sums = [
        math.fsum(x for x, place in zip(chain(*deal), slices, strict=True) if place == 1)
        for deal in dealt_anew(rows)
    ]
    [_, bound] = chance_of(parts, slices, 2, np.repeat(range(groups), size))
    assert bound >= at_least(sums, sums[0]) - 1e-9


def test_groups_that_are_the_same_throughout_are_dealt_as_single_rows():
    rng = np.random.default_rng(0)
    parts, slices, groups = rng.random(20), rng.integers(3, size=20), np.repeat(range(20), 5)
    whole = chance_of(np.repeat(parts, 5), np.repeat(slices, 5), 3, groups)
    assert whole == pytest.approx(chance_of(parts, slices, 3), rel=0.05)


def test_slices_that_hold_the_same_share_of_every_group_are_dealt_row_by_row():
    parts = np.where(np.arange(64) % 4 == 0, 1.0, 0.1)
    slices, groups = np.arange(64) % 4, np.arange(64) // 8
    row_by_row = chance_of(parts, slices, 4)
    for of in (groups, np.zeros(64, int)):
        assert chance_of(parts, slices, 4, of) == pytest.approx(row_by_row, rel=0.2)


def as_slices(*sizes):
    """That many rows of each slice."""
    return np.repeat(range(len(sizes)), sizes)


def test_chance_of_one_row_that_holds_everything_is_the_share_of_the_rows():
    parts = np.zeros(64)
    parts[0] = 1.0
    for rows in (1, 16, 64):
        assert chance_of(parts, as_slices(rows, 64 - rows), 2)[0] == pytest.approx(rows / 64)


def test_chance_of_no_more_than_the_share_of_the_rows_is_1():
    assert chance_of(np.ones(3000), as_slices(300, 1500, 1200), 4) == pytest.approx([1, 1, 1, 1])
    assert chance_of(np.zeros(4), as_slices(2, 2), 2).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("n", "tightness"), [(100, 0.01), (4000, 0.01), (16000, 0.11)])
def test_chance_of_many_rows_falls_as_it_should(n, tightness):
    """A tenth of equal rows taken at random holds the double: about exp(-n KL(0.2 | 0.1))."""
    parts = np.where(np.arange(n) < n / 2, 2 / n, 0.0)
    slices = as_slices(n // 10, n - n // 10)
    [bound, _] = chance_of(parts, slices, 2)
    p, r = 0.2, 0.1
    kl = p * math.log(p / r) + (1 - p) * math.log((1 - p) / (1 - r))
    assert math.log(bound) == pytest.approx(-kl * n / 2, rel=tightness)


@pytest.mark.parametrize("many", [([0, 2], None), ([0], None), ([0, 1], [0]), ([0, 1], [-1, 0])])
def test_slices_and_groups_that_cannot_be_dealt_are_refused(many):
    slices, groups = many
    with pytest.raises(EstimatorInputError, match=r"slices|groups"):
        chance_of([0.5, 0.5], slices, 2, groups)
    with pytest.raises(EstimatorInputError, match="negative"):
        chance_of([-0.5, 1.5], [0, 1], 2)


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
