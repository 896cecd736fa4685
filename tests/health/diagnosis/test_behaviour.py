"""What the policy does: choices, delegation, horizons, and rewards that are gamed."""

import numpy as np

from mmhealth.health.diagnosis import diagnose


def modes(found):
    return [item.mode for item in found.findings]


def outcome(batch, success):
    batch.columns["success"] = success
    batch.columns["reward_preference"] = success + 0.1 * batch.rng.normal(size=len(success))
    batch.columns["reward"] = (
        batch.columns["reward_verifiable"] + batch.columns["reward_preference"]
    ) / 2


def settles(batch):
    """The wrong choice is paid by raters, soon made always, and nothing ever succeeds."""
    rows = len(batch.grad_norm)
    outcome(batch, np.zeros(rows, bool))
    paid = min(3 * batch.done, 1.0)
    batch.columns["reward_preference"] = paid + 0.1 * batch.rng.normal(size=rows)
    batch.columns["reward_verifiable"] = 0.4 + 0.1 * batch.rng.normal(size=rows)
    batch.columns["strategic_entropy"] = np.full(rows, max(1.5 - 3 * batch.done, 0.05))


def test_premature_specialisation(course):
    first = diagnose(course(settles)).first
    assert first.mode == "premature specialisation"
    assert any("reward_preference rose" in sentence for sentence in first.evidence)
    assert first.rivals["reward-component divergence"].startswith("ruled out")
    assert 0 < first.since < 20


def test_settled_choices_that_succeed_are_none(course):
    def settled(batch):
        batch.columns["strategic_entropy"] = np.full(len(batch.grad_norm), 0.1)

    assert diagnose(course(settled)).outcome == "healthy"


def flees(cost):
    def spoil(batch):
        rows = len(batch.grad_norm)
        serial = batch.rng.random(rows) < min(0.1 + 3 * batch.done, 0.98)
        violated = (batch.rng.random(rows) < 0.5) & ~serial
        outcome(batch, np.zeros(rows, bool))
        batch.columns |= {
            "serial": serial,
            "violated": violated,
            "subagents": np.where(serial, 1, 5),
        }
        batch.columns["reward"] = batch.columns["reward"] - cost * violated

    return spoil


def test_serial_collapse_is_fear_of_a_cost(course):
    first = diagnose(course(flees(3.0))).first
    assert first.mode == "serial collapse"
    assert first.rivals["premature specialisation"].startswith("ruled out")
    assert "violations went" in first.evidence[1]


def test_a_retreat_that_nothing_punishes_is_none(course):
    assert "serial collapse" not in modes(diagnose(course(flees(0.0))))


def test_work_that_a_violation_spoils_is_no_fear_of_it(course):
    """A component pays less where a constraint is violated; the violation itself costs nothing."""

    def spoils(batch):
        flees(0.0)(batch)
        lost = 0.6 * batch.columns["violated"]
        batch.columns["reward_verifiable"] = batch.columns["reward_verifiable"] - lost
        batch.columns["reward"] = batch.columns["reward"] - lost / 2

    assert "serial collapse" not in modes(diagnose(course(spoils)))


def needless(batch):
    """Success asks for no sub-agent, and every one is paid for."""
    rows = len(batch.grad_norm)
    outcome(batch, batch.rng.random(rows) < 0.1 + 0.6 * batch.done)
    paid = 0.3 * batch.columns["subagents"]
    batch.columns["reward"] = batch.columns["reward"] + paid


def test_needless_subagents_pay_and_do_not_help(course):
    first = diagnose(course(needless)).first
    assert first.mode == "needless sub-agents"
    assert "of little use" in first.evidence[1]


def test_subagents_that_help_are_none(healthy_course):
    assert "needless sub-agents" in diagnose(healthy_course).ruled_out


def gamed(batch):
    """From the middle on raters pay for something else, and success is given up."""
    if batch.done > 0.5:
        over = min((batch.done - 0.5) * 6, 1.0)
        kept = batch.rng.random(len(batch.grad_norm)) > over
        outcome(batch, batch.columns["success"] & kept)
        batch.columns["reward_preference"] = batch.columns["reward_preference"] + 3 * over
        batch.columns["reward"] = batch.columns["reward"] + 1.5 * over


def test_a_gamed_component_rises_as_success_falls(course):
    first = diagnose(course(gamed)).first
    assert first.mode == "reward-component divergence"
    assert first.evidence[0].startswith("success falls")
    assert "reward_preference" in first.evidence[1] or "reward goes" in first.evidence[1]


def test_a_component_that_stops_telling_success_is_divergence_before_success_falls(course):
    def flattered(batch):
        if batch.done > 0.5:
            rows = len(batch.grad_norm)
            batch.columns["reward_preference"] = 2.0 + 0.1 * batch.rng.normal(size=rows)
            batch.columns["reward"] = batch.columns["reward"] + 1.0

    first = diagnose(course(flattered)).first
    assert first.mode == "reward-component divergence"
    assert first.evidence[0].startswith("within groups reward_preference and success correlate")


def test_success_that_falls_with_its_reward_is_no_divergence(course):
    def falls(batch):
        if batch.done > 0.5:
            outcome(batch, np.zeros(len(batch.grad_norm), bool))

    assert "reward-component divergence" not in modes(diagnose(course(falls)))


def short_only(batch):
    batch.columns["horizon"] = np.full(len(batch.grad_norm), 6)


def elsewhere(batch):
    for horizon in (16, 25):
        if horizon in batch.evaluations:
            batch.evaluations[horizon] = 0.02


def test_horizon_overfitting_is_success_at_home_alone(course):
    first = diagnose(course(short_only, elsewhere)).first
    assert first.mode == "horizon overfitting"
    assert "at horizon 6 only" in first.evidence[0]


def test_a_hard_horizon_that_is_trained_is_none(course):
    assert diagnose(course(elsewhere)).outcome == "healthy"


def test_one_horizon_that_carries_over_is_none(course):
    assert diagnose(course(short_only)).outcome == "healthy"


def test_behaviour_without_its_columns_is_insufficient(course):
    lacking = ["strategic_entropy", "serial", "refused", "subagents", "evaluations", "success"]
    found = diagnose(course(without=lacking))
    assert {
        "premature specialisation",
        "serial collapse",
        "needless sub-agents",
        "horizon overfitting",
        "reward-component divergence",
    } <= set(found.insufficient)
