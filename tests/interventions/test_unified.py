import numpy as np
import pytest

from mmhealth.estimators import ess
from mmhealth.interventions import (
    AdaptiveNormalisation,
    UnifiedConfig,
    VarianceConfig,
    VarianceCorrection,
)

ROWS = 100
SOURCE, LENGTH = ["verifier"] * ROWS, np.ones(ROWS)


def advantages(live: int) -> np.ndarray:
    """An advantage of +-1 in ``live`` rows and 0 in the others."""
    return np.where(np.arange(ROWS) < live, np.where(np.arange(ROWS) % 2, 1.0, -1.0), 0.0)


def course(lives, **changes):
    config = {"for_steps": 2, "hold": 2, "half_life": 1.0, "kl_coef": 0.5}
    layer = AdaptiveNormalisation(UnifiedConfig(**(config | changes)))
    return [layer.normalise(advantages(live), SOURCE, LENGTH) for live in lives]


def test_advantages_are_those_of_the_variance_correction():
    rng = np.random.default_rng(0)
    layer, correction = AdaptiveNormalisation(), VarianceCorrection()
    for _ in range(3):
        rows = (rng.normal(size=60), rng.choice(["a", "b"], 60), rng.integers(1, 900, 60))
        np.testing.assert_array_equal(layer.normalise(*rows).advantage, correction.normalise(*rows))


def test_both_ess_are_of_the_signal():
    rng = np.random.default_rng(1)
    source = np.repeat(["quiet", "loud"], [190, 10])
    advantage = rng.normal(size=200) * np.where(source == "loud", 30, 1)
    log_weight = rng.normal(size=200) * 0.1 + 900
    config = UnifiedConfig(variance=VarianceConfig(min_rows=0))
    got = AdaptiveNormalisation(config).normalise(advantage, source, np.ones(200), log_weight)
    log_signal = np.log(np.abs(advantage)) + log_weight
    assert got.ess_before == pytest.approx(ess(log_signal) / 200)
    assert got.ess_before < 0.1
    assert got.ess_after > 0.5


def test_it_acts_in_the_step_of_the_second_breach_and_holds_and_fades():
    steps = course([50, 10, 10, 10, 22, 50, 50, 50, 50, 50, 50])
    assert [step.ess_after for step in steps[:2]] == pytest.approx([0.5, 0.1])
    assert [step.active for step in steps[:5]] == [False, False, True, True, True]
    assert [step.kl_coef for step in steps[2:]] == [0.5] * 5 + [0.25, 0.125, 0.0625, 0.03125]
    assert [step.replay for step in steps[2:]] == [True] * 5 + [False] * 4


def test_it_ends_when_a_hundredth_is_left():
    steps = course([10, 10, *[50] * 20])
    assert [step.active for step in steps].index(True) == 1
    assert sum(step.active for step in steps) == 1 + 2 + 6
    assert steps[-1].kl_coef == 0


def test_one_bad_step_does_nothing():
    assert not any(step.active for step in course([10, 50] * 5))


def test_between_the_thresholds_it_stays_as_it_is():
    assert all(step.kl_coef == 0.5 for step in course([10, 10, *[22] * 20])[1:])


def test_it_fires_again_while_it_fades():
    steps = course([10, 10, 50, 50, 50, 10, 10])
    assert steps[4].kl_coef == 0.25
    assert not steps[4].replay
    assert steps[6].kl_coef == 0.5
    assert steps[6].replay


def test_a_step_without_contrast_is_a_breach():
    steps = course([0, 0])
    assert steps[1].ess_after == 0
    assert steps[1].active


def test_what_a_loud_source_hides_is_cured_by_the_scale_and_raises_no_alarm():
    rng = np.random.default_rng(2)
    source = np.repeat(["quiet", "loud"], [190, 10])
    layer = AdaptiveNormalisation(UnifiedConfig(for_steps=1, variance=VarianceConfig(min_rows=0)))
    for _ in range(5):
        advantage = rng.normal(size=200) * np.where(source == "loud", 30, 1)
        step = layer.normalise(advantage, source, np.ones(200))
        assert step.ess_before < layer.config.below < step.ess_after
        assert not step.active


def test_it_does_not_judge_its_own_repair():
    layer = AdaptiveNormalisation(UnifiedConfig(for_steps=1))
    sampled = np.arange(2 * ROWS) < ROWS
    advantage = np.concatenate([advantages(10), advantages(100)])
    step = layer.normalise(advantage, SOURCE * 2, np.ones(2 * ROWS), observed=sampled)
    assert step.ess_after == pytest.approx(0.1)
    assert len(step.advantage) == 2 * ROWS
    assert (layer.active, layer.kl_coef, layer.replay) == (True, 0.5, True)


def test_mistakes_are_named():
    layer = AdaptiveNormalisation()
    with pytest.raises(ValueError, match="observed"):
        layer.normalise([], [], [])
    with pytest.raises(ValueError, match="log_weight"):
        layer.normalise([1.0], ["a"], [1], [0.0, 0.0])
    with pytest.raises(ValueError, match="recover"):
        UnifiedConfig(below=0.3, recover=0.2)
    with pytest.raises(ValueError, match="for_steps"):
        UnifiedConfig(for_steps=0)
