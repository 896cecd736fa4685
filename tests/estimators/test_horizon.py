import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import HorizonCell, HorizonMatrix, wilson_interval

FAST = settings(deadline=None, derandomize=True, max_examples=60)
ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([6, 10, 16, 25]), min_size=1, max_size=3),
        st.sampled_from([6, 10, 16, 25]),
        st.integers(0, 50),
        st.integers(0, 50),
    ).map(lambda row: (*row[:3], min(row[2:]))),
    max_size=30,
)
ARTICLE = [((6,), 6, 100, 25), ((6,), 25, 100, 8), ((25,), 25, 100, 20), ((25,), 6, 100, 10)]


@FAST
@given(st.integers(1, 10_000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_interval_agrees_with_scipy(episodes, share, confidence):
    successes = round(share * episodes)
    low, high = wilson_interval(successes, episodes, confidence)
    expected = binomtest(successes, episodes).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
    assert 0.0 <= low <= successes / episodes <= high <= 1.0
    assert wilson_interval(episodes - successes, episodes, confidence) == pytest.approx(
        (1 - high, 1 - low), abs=1e-12
    )


def test_wilson_interval_closed_forms():
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 10) == pytest.approx((0.0, z2 / (10 + z2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + z2), 1.0))


@pytest.mark.parametrize("args", [(0, 0), (3, 2), (-1, 5), (1, 5, 0.0), (1, 5, 1.0), (0.5, 1)])
def test_what_has_no_interval_is_refused(args):
    with pytest.raises(EstimatorInputError):
        wilson_interval(*args)


def test_equal_cells_are_added_up():
    matrix = HorizonMatrix.from_rows([([10, 6], 6, 10, 3), ((6, 10, 6), 6, 30, 9), ((6,), 6, 5, 0)])
    assert matrix.regimes == ((6,), (6, 10))
    assert matrix.horizons == (6,)
    cell = matrix.cell([10, 6], 6)
    assert cell == HorizonCell((6, 10), 6, 40, 12)
    assert cell.success_rate == pytest.approx(0.3)
    assert cell.interval(0.9) == wilson_interval(12, 40, 0.9)


def test_what_was_not_measured_is_none():
    matrix = HorizonMatrix.from_rows([((6,), 6, 10, 3), ((10,), 10, 0, 0)])
    assert matrix.cell((6,), 25) is None
    assert matrix.cell((25,), 6) is None
    assert matrix.regimes == ((6,),)
    assert matrix.worst_case((10,)) is None
    assert matrix.diagonality() is None
    assert HorizonMatrix.from_rows([]).diagonality() is None


def test_diagonality_closed_form():
    assert HorizonMatrix.from_rows(ARTICLE).diagonality() == pytest.approx((0.17 + 0.10) / 2)
    mixed = [((6, 25), 6, 100, 30), ((6, 25), 25, 100, 30)]
    assert HorizonMatrix.from_rows(mixed).diagonality() is None
    assert HorizonMatrix.from_rows(ARTICLE + mixed).diagonality() == pytest.approx(0.135)
    blind = [((16,), 6, 100, 90), ((16,), 25, 100, 90)]  # never evaluated at its own horizon
    assert HorizonMatrix.from_rows(ARTICLE + blind).diagonality() == pytest.approx(0.135)


def test_worst_case():
    matrix = HorizonMatrix.from_rows([*ARTICLE, ((6,), 16, 50, 4)])
    assert matrix.worst_case((6,)) == HorizonCell((6,), 25, 100, 8)  # 0.08 at 16 as well
    assert matrix.worst_case((25,)) == HorizonCell((25,), 6, 100, 10)


@FAST
@given(ROWS, st.randoms(use_true_random=False))
def test_matrix_agrees_with_plain_loops(rows, random):
    matrix = HorizonMatrix.from_rows(rows)
    assert HorizonMatrix.from_rows(random.sample(rows, len(rows))) == matrix
    assert sum(cell.episodes for cell in matrix.cells) == sum(row[2] for row in rows)
    for regime in {tuple(sorted(set(row[0]))) for row in rows}:
        for horizon in (6, 10, 16, 25):
            same = [r for r in rows if set(r[0]) == set(regime) and r[1] == horizon]
            episodes = sum(r[2] for r in same)
            cell = matrix.cell(regime, horizon)
            assert (cell is None) == (episodes == 0)
            if cell is not None:
                assert (cell.episodes, cell.successes) == (episodes, sum(r[3] for r in same))
                assert matrix.worst_case(regime).success_rate <= cell.success_rate
    gap = matrix.diagonality()
    assert gap is None or -1.0 <= gap <= 1.0


@FAST
@given(ROWS, ROWS)
def test_merged_parts_equal_the_whole(first, second):
    parts = [HorizonMatrix.from_rows(rows) for rows in (first, second)]
    rows = [
        (c.regime, c.eval_horizon, c.episodes, c.successes) for part in parts for c in part.cells
    ]
    assert HorizonMatrix.from_rows(rows) == HorizonMatrix.from_rows(first + second)


@pytest.mark.parametrize(
    "row",
    [
        ((), 6, 1, 1),
        ((0,), 6, 1, 1),
        ((6,), 0, 1, 1),
        ((6,), 6, 1, 2),
        ((6,), 6, -1, 0),
        ((6,), 6, 0, 1),
        ((6,), 6, 1.5, 1),
        ((6,), 6, math.nan, 1),
        ((6.5,), 6, 1, 1),
    ],
)
def test_rows_that_are_no_counts_are_refused(row):
    with pytest.raises(EstimatorInputError):
        HorizonMatrix.from_rows([row])


@pytest.mark.parametrize("counts", [(0, 0), (2, 3)])
def test_impossible_cells_are_refused(counts):
    with pytest.raises(EstimatorInputError):
        HorizonCell((6,), 6, *counts)
