import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import minimum_variance_baseline

rows = st.lists(
    st.tuples(st.floats(-5, 5), st.floats(0, 5), st.floats(-3, 3), st.integers(0, 2)), min_size=1
)


def slow(rows, *, leave_one_out):
    out = []
    for i, (_, _, _, group) in enumerate(rows):
        mates = [
            row for j, row in enumerate(rows) if row[3] == group and not (leave_one_out and i == j)
        ]
        weight = [(g * np.exp(w)) ** 2 for _, g, w, _ in mates]
        rewards = [r for r, _, _, _ in mates]
        out.append(np.average(rewards, weights=weight) if sum(weight) else np.mean(rewards))
    return out


@given(rows, st.booleans())
def test_against_the_formula(rows, leave_one_out):
    rows = [(r, g if g > 1e-3 else 0.0, w, k) for r, g, w, k in rows]
    if leave_one_out:
        rows = rows * 2
    reward, norm, log_weight, group = zip(*rows, strict=True)
    got = minimum_variance_baseline(
        reward, norm, group, log_weight=log_weight, leave_one_out=leave_one_out
    )
    np.testing.assert_allclose(got, slow(rows, leave_one_out=leave_one_out), atol=1e-9)


def test_equal_norms_give_the_group_mean():
    got = minimum_variance_baseline([0, 1, 5, 7], [3, 3, 2, 2], ["a", "a", "b", "b"])
    assert got.tolist() == [0.5, 0.5, 6, 6]


def test_norms_that_are_all_zero_give_the_mean():
    assert minimum_variance_baseline([0, 1], [0, 0], [0, 0]).tolist() == [0.5, 0.5]


def test_no_constant_has_less_variance():
    rng = np.random.default_rng(0)
    norm = rng.lognormal(size=500)
    reward = norm + rng.normal(size=500)
    score = norm * rng.choice([-1, 1], size=500)

    def second_moment(baseline):
        return np.mean((score * (reward - baseline)) ** 2)

    best = minimum_variance_baseline(reward, norm, np.zeros(500, int))[0]
    assert second_moment(best) < 0.9 * second_moment(reward.mean())
    assert all(second_moment(best) <= second_moment(best + d) for d in (-0.1, -0.01, 0.01, 0.1))


def test_left_out_rows_do_not_enter_their_own_baseline():
    reward = np.array([0.0, 1.0, 2.0, 1e6])
    got = minimum_variance_baseline(reward, [1e-3, 1, 1, 1e6], [0] * 4, leave_one_out=True)
    assert got[3] == pytest.approx(1.5, rel=1e-6)


def test_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="leave_one_out"):
        minimum_variance_baseline([1.0], [1.0], ["a"], leave_one_out=True)
    with pytest.raises(ValueError, match="score_norm"):
        minimum_variance_baseline([1.0], [-1.0], ["a"])
    with pytest.raises(ValueError, match="reward"):
        minimum_variance_baseline([np.nan], [1.0], ["a"])
