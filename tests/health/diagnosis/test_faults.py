"""Values that are not finite, and restarts with and without a fault."""

import numpy as np
import pytest

from mmhealth.health.diagnosis import diagnose

AT = 22


def modes(found):
    return [item.mode for item in found.findings]


def forgets(batch):
    """From the restart on the policy is that of the first steps."""
    if batch.step >= AT:
        lost = 0.55
        batch.columns["reward_verifiable"] -= 0.4 * lost
        batch.columns["entropy"] += 0.6 * lost
        batch.columns["strategic_entropy"] += 0.6 * lost
        batch.columns["reward"] -= 0.2 * lost


def test_a_resume_fault_is_a_jump_at_the_restart(course):
    found = diagnose(course(forgets, restarts=[AT]))
    assert found.first.mode == "resume fault"
    assert found.first.since == AT
    assert f"a new attempt begins at step {AT}" in found.first.evidence
    assert any("entropy goes back from" in sentence for sentence in found.first.evidence)


def test_the_same_jump_without_a_restart_is_none(course):
    assert "resume fault" not in modes(diagnose(course(forgets)))


def test_the_same_jump_beside_a_restart_is_none(course):
    assert "resume fault" not in modes(diagnose(course(forgets, restarts=[AT - 9])))


def test_a_clean_restart_is_none(healthy_course):
    found = diagnose(healthy_course)
    assert found.outcome == "healthy"
    assert "resume fault" in found.ruled_out


def test_a_restart_at_the_very_end_cannot_be_told(course):
    found = diagnose(course(restarts=[38]))
    assert "resume fault" not in found.ruled_out
    assert found.insufficient["resume fault"] == "a restart has fewer than 4 steps on one side"


@pytest.mark.parametrize(("column", "value"), [("advantage", np.nan), ("reward", np.inf)])
def test_non_finite_values_name_step_and_column(course, column, value):
    def spoil(batch):
        if batch.step == 17:
            values = np.array(batch.columns[column], float)
            values[3] = value
            batch.columns[column] = values

    first = diagnose(course(spoil)).first
    assert (first.mode, first.since) == ("non-finite values", 17)
    assert column in first.evidence[0]


def test_non_finite_values_come_before_what_they_may_bring(course):
    def spoil(batch):
        batch.parts["reuse"] = 2.5 * batch.rng.normal(size=len(batch.grad_norm))
        if batch.step == 17:
            batch.grad_norm[0] = np.inf

    found = diagnose(course(spoil))
    assert modes(found) == ["non-finite values", "estimator collapse"]
    assert found.findings[1].follows_from == "non-finite values"


def test_few_steps_are_insufficient(course):
    found = diagnose(course(steps=4))
    assert found.outcome == "insufficient data"
    assert found.first is None


def test_rewards_that_are_redefined_at_a_restart_are_no_lost_state(course):
    def redefined(batch):
        if batch.step >= AT:
            for name in ("reward", "reward_verifiable", "reward_preference"):
                batch.columns[name] = batch.columns[name] - 0.5

    assert "resume fault" not in modes(diagnose(course(redefined, restarts=[AT])))


def test_a_restart_that_leaps_ahead_is_no_lost_state(course):
    def leaps(batch):
        if batch.step >= AT:
            batch.columns["reward_verifiable"] += 0.3
            batch.columns["entropy"] -= 0.3
            batch.columns["strategic_entropy"] -= 0.3

    assert "resume fault" not in modes(diagnose(course(leaps, restarts=[AT])))
