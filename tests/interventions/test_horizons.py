import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import MixedHorizons, advantages_within_horizon


def test_every_group_has_one_horizon_and_all_are_drawn_alike():
    drawn = MixedHorizons(seed=3).sample(4000, group_size=2)
    assert drawn.dtype == np.int64
    assert (drawn[::2] == drawn[1::2]).all()
    horizons, counts = np.unique(drawn, return_counts=True)
    assert horizons.tolist() == [6, 10, 16, 25]
    assert np.abs(counts / 8000 - 0.25).max() < 0.03


def test_draws_differ_from_step_to_step_and_from_seed_to_seed():
    horizons = MixedHorizons(seed=0)
    first, second = horizons.sample(50), horizons.sample(50)
    assert first.tolist() != second.tolist()
    assert first.tolist() == MixedHorizons(seed=0).sample(50).tolist()
    assert first.tolist() != MixedHorizons(seed=1).sample(50).tolist()


def test_weights_can_favour_some():
    drawn = MixedHorizons((6, 25), weights=(0, 1)).sample(20)
    assert set(drawn.tolist()) == {25}


reward = st.sampled_from([0.0, 0.1, 0.3, 1.0])


@given(
    st.lists(st.tuples(reward, st.sampled_from([6, 25]), st.integers(0, 2)), min_size=1),
    st.booleans(),
)
def test_standardised_within_horizon(rows, grouped):
    rewards, horizon, group = (np.array(column) for column in zip(*rows, strict=True))
    got = advantages_within_horizon(rewards, horizon, group if grouped else None)
    for h in set(horizon):
        here = horizon == h
        assert got[here].sum() == pytest.approx(0, abs=1e-9)
        cells = [here & (group == g) for g in set(group[here])] if grouped else [here]
        if all(len(set(rewards[cell])) == 1 for cell in cells):
            assert (got[here] == 0).all()
        else:
            assert np.mean(got[here] ** 2) == pytest.approx(1)
        for cell in cells:
            centred = rewards[cell] - rewards[cell].mean()
            assert got[cell] * np.abs(centred).max() == pytest.approx(
                centred * np.abs(got[cell]).max(), abs=1e-9
            )


def test_a_horizon_does_not_disturb_another():
    easy, hard = [1.0, 0.0, 1.0, 1.0], [100.0, -100.0]
    alone = advantages_within_horizon(easy, [6] * 4)
    together = advantages_within_horizon([*easy, *hard], [6] * 4 + [25] * 2)
    assert together.tolist() == [*alone.tolist(), 1, -1]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="horizons"):
        MixedHorizons((0, 6))
    with pytest.raises(ValueError, match="weights"):
        MixedHorizons((6, 10), weights=(1,))
    with pytest.raises(ValueError, match="reward"):
        advantages_within_horizon([np.nan], [6])
