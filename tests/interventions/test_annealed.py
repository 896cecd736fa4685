import math

import numpy as np
import pytest

from mmhealth.interventions import AnnealedReward


def test_it_decays_by_a_factor_e_every_decay_steps():
    annealed = AnnealedReward(2.0, decay_steps=25)
    assert annealed.beta(0) == 2
    assert annealed.beta(25) == pytest.approx(2 / math.e)
    assert annealed.beta(250) < 1e-3 * annealed.beta(0)


def test_reward_is_beta_times_the_auxiliary_one():
    got = AnnealedReward(2.0, 25).reward(0, [0.0, 0.5, np.nan])
    assert got[:2].tolist() == [0, 1]
    assert np.isnan(got[2])


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="beta0"):
        AnnealedReward(-1, 1)
    with pytest.raises(ValueError, match="decay_steps"):
        AnnealedReward(1, 0)
