import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import VarianceConfig, VarianceCorrection

finite = st.floats(-10, 10).filter(lambda a: a == 0 or abs(a) > 1e-3)
batch = st.lists(
    st.tuples(finite, st.sampled_from(["human", "verifier"]), st.integers(1, 2000)), min_size=1
)


def columns(rows):
    return tuple(list(column) for column in zip(*rows, strict=True))


@given(st.lists(batch, min_size=1, max_size=4), st.sampled_from([0.0, 0.9]))
def test_against_the_formula(batches, decay):
    correction = VarianceCorrection(VarianceConfig(decay=decay, min_rows=0, floor=0))
    squares, counts = {}, {}
    for rows in batches:
        got = correction.normalise(*columns(rows))
        for name in {source for _, source, _ in rows}:
            mine = [a for a, source, _ in rows if source == name]
            squares[name] = decay * squares.get(name, 0) + sum(a * a for a in mine)
            counts[name] = decay * counts.get(name, 0) + len(mine)
        for (advantage, name, length), value in zip(rows, got.tolist(), strict=True):
            sigma = (squares[name] / counts[name]) ** 0.5
            expected = advantage / (sigma * length**0.5) if advantage else 0
            assert value == pytest.approx(expected, rel=1e-9)


@given(batch, st.floats(0.1, 100))
def test_scale_of_a_source_drops_out(rows, factor):
    advantage, source, length = columns(rows)
    config = VarianceConfig(min_rows=0, floor=0)
    plain = VarianceCorrection(config).normalise(advantage, source, length)
    louder = np.array(advantage) * np.where(np.array(source) == "human", factor, 1)
    got = VarianceCorrection(config).normalise(louder, source, length)
    np.testing.assert_allclose(got, plain, rtol=1e-9)


@given(batch)
def test_a_single_source_is_a_global_scale(rows):
    advantage, _, length = columns(rows)
    got = VarianceCorrection().normalise(advantage, ["one"] * len(rows), length)
    rms = np.sqrt(np.mean(np.square(advantage)))
    expected = np.array(advantage) / (np.where(rms > 0, rms, 1) * np.sqrt(length))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_a_source_with_few_rows_is_topped_up_with_pooled_ones():
    correction = VarianceCorrection(VarianceConfig(decay=0.0, min_rows=10, floor=0))
    correction.normalise([1.0] * 90 + [5.0] * 2, ["a"] * 90 + ["b"] * 2, [1] * 92)
    pooled = (90 + 50) / 92
    assert correction.sigma("a") == pytest.approx(1)
    assert correction.sigma("b") == pytest.approx(np.sqrt((50 + 8 * pooled) / 10))
    assert correction.sigma("c") is None


def test_a_solved_source_is_not_amplified_into_noise():
    correction = VarianceCorrection(VarianceConfig(decay=0.0, min_rows=0, floor=0.1))
    advantage = np.array([1.0, -1.0] * 50 + [1e-9] * 100)
    got = correction.normalise(advantage, ["live"] * 100 + ["solved"] * 100, np.ones(200))
    assert abs(got[0]) == pytest.approx(1)
    assert np.abs(got[100:]).max() < 1e-7


def test_rows_that_are_not_observed_are_scaled_but_teach_nothing():
    correction = VarianceCorrection(VarianceConfig(min_rows=0))
    observed = np.array([True, True, False, False])
    got = correction.normalise(
        [2, -2, 40, 1], ["a", "a", "a", "new"], np.ones(4), observed=observed
    )
    assert got.tolist() == [1, -1, 20, 0.5]
    assert correction.sigma("new") is None
    before = correction.state_dict()
    again = correction.normalise([2, 0], ["a", "a"], [4, 4], observed=np.zeros(2, bool))
    assert again.tolist() == [0.5, 0]
    assert correction.state_dict() == before


def test_parts_can_be_switched_off_and_a_length_can_be_the_unit():
    rows = ([2.0, -2.0, 1.0, -1.0], ["a", "a", "b", "b"], [400, 100, 100, 100])
    only_source = VarianceCorrection(VarianceConfig(by_length=False, min_rows=0))
    assert only_source.normalise(*rows).tolist() == [1, -1, 1, -1]
    only_length = VarianceCorrection(VarianceConfig(by_source=False, reference_length=100))
    got = only_length.normalise(*rows)
    assert got.tolist() == pytest.approx(np.array([1, -2, 1, -1]) / np.sqrt(2.5))
    assert only_length.pooled == pytest.approx(np.sqrt(2.5))


def test_all_zero_stays_zero_and_tells_no_scale():
    correction = VarianceCorrection()
    assert correction.normalise([0.0, 0.0], ["a", "b"], [1, 2]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no scale is known"):
        correction.normalise([1.0], ["a"], [1], observed=np.array([False]))


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (([np.nan], ["a"], [1]), "advantage"),
        (([1.0], [None], [1]), "source"),
        (([1.0], ["a"], [0]), "length"),
        (([1.0], ["a"], [1, 2]), "length"),
    ],
)
def test_refused_rows_change_nothing(rows, why):
    correction = VarianceCorrection()
    with pytest.raises(ValueError, match=why):
        correction.normalise(*rows)
    assert correction.pooled is None


def test_settings_out_of_range_are_refused():
    for wrong in ({"decay": 1}, {"floor": 2}, {"min_rows": -1}, {"reference_length": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VarianceConfig(**wrong)
