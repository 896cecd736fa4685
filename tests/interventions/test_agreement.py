import math

import numpy as np
import pytest

from mmhealth.interventions import intraclass_correlation

SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]


def test_the_example_of_shrout_and_fleiss():
    assert intraclass_correlation(SHROUT_FLEISS) == pytest.approx(0.17, abs=0.005)


def test_perfect_agreement_is_one_and_noise_is_near_zero():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 1))
    assert intraclass_correlation(np.tile(truth, 3)) == pytest.approx(1)
    assert intraclass_correlation(rng.normal(size=(400, 3))) == pytest.approx(0, abs=0.08)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_it_estimates_the_share_of_variance_between_rows(missing):
    rng = np.random.default_rng(1)
    ratings = rng.normal(size=(3000, 1)) + rng.normal(size=(3000, 4)) * math.sqrt(3)
    ratings[rng.random(ratings.shape) < missing] = np.nan
    assert intraclass_correlation(ratings) == pytest.approx(0.25, abs=0.03)


def test_rows_with_one_rating_say_nothing():
    table = np.array(SHROUT_FLEISS, float)
    alone = np.array([[100, np.nan, np.nan, np.nan], [np.nan] * 4])
    assert intraclass_correlation(np.vstack([table, alone])) == intraclass_correlation(table)


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[1.0], [2.0]]])
def test_unknown_where_there_is_nothing_to_compare(table):
    assert intraclass_correlation(table) is None


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="ratings"):
        intraclass_correlation([1.0, 2.0])
