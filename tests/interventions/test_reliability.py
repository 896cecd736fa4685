import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import (
    ReliabilityConfig,
    ReliabilitySchedule,
    StagedConfig,
    StagedObjectives,
)


def ratings(agreement: float, seed: int = 0, rows: int = 200) -> np.ndarray:
    """Two raters who agree as asked."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, 1)) * np.sqrt(agreement)
    return shared + rng.normal(size=(rows, 2)) * np.sqrt(1 - agreement)


def schedule(**changes) -> ReliabilitySchedule:
    config = {"ready": 0.5, "ramp_steps": 10, "decay": 0.5, "min_ratings": 10, "min_batches": 1}
    return ReliabilitySchedule(
        {"syntax": 0.5, "human": 0.3, "clicks": 0.2},
        ReliabilityConfig(**(config | changes)),
        verifiable={"syntax"},
    )


def test_signals_enter_one_after_another_the_most_reliable_first():
    plan = schedule()
    assert plan.introduced("syntax") == 0
    plan.observe(4, "clicks", ratings(0.6))
    plan.observe(4, "human", ratings(0.9))
    assert (plan.introduced("human"), plan.introduced("clicks")) == (5, 15)
    assert plan.weights(5) == {"syntax": 1, "human": 0, "clicks": 0}
    assert plan.weights(15) == pytest.approx({"syntax": 0.5 / 0.8, "human": 0.3 / 0.8, "clicks": 0})
    assert plan.weights(25) == pytest.approx({"syntax": 0.5, "human": 0.3, "clicks": 0.2})
    assert plan.floor_active(24)
    assert not plan.floor_active(25)


def test_what_is_not_reliable_stays_out_however_long_it_is_observed():
    plan = schedule()
    for step in range(50):
        plan.observe(step, "human", ratings(0.1, step))
    assert plan.introduced("human") is None
    assert plan.weights(99) == {"syntax": 1, "human": 0, "clicks": 0}
    assert plan.floor_active(99)


def test_with_one_preference_it_is_the_staged_schedule():
    plan = ReliabilitySchedule(
        {"verifiable": 1, "preference": 1},
        ReliabilityConfig(ramp_steps=15, min_batches=1),
        verifiable=["verifiable"],
    )
    plan.observe(29, "preference", ratings(0.95))
    staged = StagedObjectives(100, StagedConfig(warmup=0.3, ramp=0.15, preference=0.5))
    for step in range(100):
        assert plan.weights(step) == pytest.approx(staged.weights(step))


def test_reliability_is_agreement_times_confidence_smoothed():
    plan = schedule(decay=0.75)
    same = np.tile(np.arange(20.0)[:, None], 2)
    assert plan.reliability("human") is None
    plan.observe(0, "human", same, np.full(20, 0.8))
    assert plan.reliability("human") == pytest.approx(0.8)
    plan.observe(1, "human", confidence=np.full(20, 0.4))
    assert plan.reliability("human") == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert plan.reliability("syntax") == 1


@pytest.mark.parametrize(
    "batch",
    [
        {"ratings": np.ones((50, 2))},
        {"ratings": ratings(0.9, rows=4)},
        {"ratings": np.column_stack([np.arange(50.0), np.full(50, np.nan)])},
        {"confidence": np.full(9, 0.9)},
        {"confidence": np.full(50, np.nan)},
    ],
)
def test_batches_that_carry_no_information_change_nothing(batch):
    plan = schedule()
    plan.observe(0, "human", **batch)
    assert plan.reliability("human") is None


def test_disagreement_counts_as_zero_not_as_negative():
    plan = schedule()
    plan.observe(0, "human", np.column_stack([np.arange(20.0), -np.arange(20.0)]))
    assert plan.reliability("human") == 0


def test_a_late_batch_does_not_rewrite_the_past():
    plan = schedule()
    plan.observe(20, "human", ratings(0.1))
    before = [plan.weights(step) for step in range(21)]
    plan.observe(3, "human", ratings(0.99))
    plan.observe(3, "human", ratings(0.99))
    assert plan.introduced("human") == 21
    assert [plan.weights(step) for step in range(21)] == before


@given(
    st.lists(
        st.tuples(st.sampled_from(["human", "clicks"]), st.floats(0, 0.99), st.booleans()),
        max_size=30,
    ),
    st.sampled_from([0.0, 0.4]),
)
def test_what_the_weights_were_they_stay_and_sum_to_one(batches, drop):
    plan = schedule(drop=drop, drop_batches=2)
    told = {}
    for step, (name, confidence, speaks) in enumerate(batches):
        told[step] = plan.weights(step)
        assert sum(told[step].values()) == pytest.approx(1)
        if speaks:
            plan.observe(step, name, confidence=np.full(20, confidence))
        if not drop:
            assert all(plan.weights(past) == was for past, was in told.items())


def test_a_signal_is_withdrawn_only_if_it_stays_unreliable():
    plan = schedule(drop=0.4, drop_batches=3, decay=0.0)
    plan.observe(0, "human", confidence=np.full(20, 0.9))
    for step in (20, 21):
        plan.observe(step, "human", confidence=np.full(20, 0.1))
    plan.observe(22, "human", confidence=np.full(20, 0.45))
    assert plan.weights(22)["human"] > 0
    for step in (23, 24, 25):
        plan.observe(step, "human", confidence=np.full(20, 0.1))
    assert plan.introduced("human") is None
    assert plan.weights(26) == {"syntax": 1, "human": 0, "clicks": 0}


def test_without_a_verifiable_signal_there_is_no_reward_until_one_is_ready():
    plan = ReliabilitySchedule({"human": 1.0}, ReliabilityConfig(min_batches=1))
    assert np.isnan(plan.compose(0, {"human": [1.0]})).all()
    plan.observe(-1, "human", ratings(0.95))
    assert plan.compose(0, {"human": [1.0]}).tolist() == [1]
    assert not plan.floor_active(0)


def test_compose_takes_what_has_arrived():
    plan = schedule(ramp_steps=0)
    plan.observe(0, "human", ratings(0.95))
    got = plan.compose(1, {"syntax": [1.0, 1.0], "human": [0.0, np.nan]})
    assert got.tolist() == pytest.approx([0.5 / 0.8, 1])


def test_mistakes_are_named():
    plan = schedule()
    with pytest.raises(ValueError, match="known: "):
        plan.observe(0, "humans", ratings(0.5))
    with pytest.raises(ValueError, match="verifiable"):
        plan.observe(0, "syntax", ratings(0.5))
    with pytest.raises(ValueError, match="at least one"):
        plan.observe(0, "human")
    with pytest.raises(ValueError, match="confidence"):
        plan.observe(0, "human", confidence=[1.2])
    with pytest.raises(ValueError, match="signals"):
        ReliabilitySchedule({"a": 0})
    with pytest.raises(ValueError, match="drop"):
        ReliabilityConfig(drop=0.9, ready=0.5)
