"""Columns that are missing, odd or known in part: no mode is found or ruled out by them."""

import warnings

import numpy as np
import pytest

from mmhealth.health.diagnosis import diagnose


def finding(found, mode):
    return next(item for item in found.findings if item.mode == mode)


def reused(batch):
    batch.parts["reuse"] = 1.8 * batch.rng.normal(size=batch.parts["reuse"].size)


@pytest.mark.parametrize("value", ["human", True], ids=["text", "flag"])
def test_a_column_that_only_sounds_like_a_reward_is_no_component(course, value):
    def label(batch):
        batch.columns["reward_source"] = [value] * len(batch.columns["reward"])

    assert diagnose(course(label)).outcome == "healthy"


def test_without_lag_nothing_is_said_of_the_age(course):
    found = finding(diagnose(course(reused, without=["behavior_lag"])), "estimator collapse")
    assert found.rivals["staleness"] == "not ruled out: behavior_lag is not logged"
    assert "old" not in found.evidence[0]


def test_stale_or_mismatched_cannot_be_told_without_the_mismatch(course):
    def stale(batch):
        batch.parts["age"] = 1.2 * batch.rng.normal(size=batch.parts["age"].size)
        batch.columns["behavior_lag"] = np.full(len(batch.columns["reward"]), 8)

    known = finding(diagnose(course(stale)), "staleness")
    unknown = finding(diagnose(course(stale, without=["log_weight_mismatch"])), "staleness")
    assert "cannot be told apart" not in known.evidence[1]
    assert "cannot be told apart" in unknown.evidence[1]


def test_success_that_is_known_at_times_is_not_counted_as_none(course):
    def seldom(batch):
        batch.columns["strategic_entropy"] = 1.5 * np.exp(-8 * batch.done) + 0 * batch.grad_norm
        if batch.step % 6:
            batch.columns["success"] = [None] * len(batch.columns["reward"])

    found = diagnose(course(seldom))
    assert found.insufficient["premature specialisation"] == "success is known in too few steps"


@pytest.mark.parametrize(
    ("without", "mode"),
    [
        (["reward", "reward_verifiable", "reward_preference"], "reward-component divergence"),
        (["success"], "premature specialisation"),
        (["grad_norm"], "gradient domination"),
        (["subagents"], "needless sub-agents"),
    ],
)
def test_a_mode_without_its_columns_is_not_ruled_out(course, without, mode):
    found = diagnose(course(without=without))
    assert mode in found.insufficient
    assert mode not in found.ruled_out


def test_sub_agents_are_not_called_needless_where_nothing_ever_succeeds(course):
    def fails(batch):
        batch.columns["success"] = np.zeros(len(batch.columns["reward"]), bool)

    assert "needless sub-agents" in diagnose(course(fails)).insufficient


def test_columns_that_are_nan_throughout_say_nothing_and_warn_of_nothing(course):
    def broken(batch):
        for name in ("reward", "reward_verifiable", "reward_preference", "entropy"):
            batch.columns[name] = np.full(len(batch.columns["reward"]), np.nan)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnose(course(broken))
    assert found.first.mode == "non-finite values"
    assert "dead groups" not in found.ruled_out
