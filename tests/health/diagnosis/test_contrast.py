"""Groups without contrast, and slices that make the whole update."""

import numpy as np
import pytest

from mmhealth.health.diagnosis import diagnose


def flat(share, *, solved=False):
    """A ``share(done)`` of the groups gets the same outcome, and no other reward."""

    def spoil(batch):
        group = batch.columns["group_id"]
        dead = group < round(share(batch.done) * (group.max() + 1))
        success = np.where(dead, solved, batch.columns["success"]).astype(bool)
        for name in ("reward", "reward_verifiable", "reward_preference"):
            batch.columns[name] = success.astype(float)
        batch.columns["success"] = success
        advantage = success - success.reshape(-1, 8).mean(1).repeat(8)
        batch.columns["advantage"] = advantage
        batch.grad_norm = np.abs(advantage) + 1e-9 * batch.rng.random(len(group))

    return spoil


@pytest.mark.parametrize("begin", [0.0, 0.5])
def test_groups_are_dead_from_the_start_or_at_once(course, begin):
    found = diagnose(course(flat(lambda done: 1.0 if done >= begin else 0.0)))
    assert found.first.mode == "dead groups"
    assert "same reward" in found.first.evidence[0]
    assert found.first.rivals["estimator collapse"].startswith("ruled out")


def test_contrast_that_fades_is_a_collapse_of_the_estimator(course):
    found = diagnose(course(flat(lambda done: min(1.6 * done, 1.0))))
    assert found.first.mode == "estimator collapse"
    assert found.first.rivals["dead groups"].startswith("ruled out")


def test_a_task_that_is_learned_to_the_end_is_healthy(course):
    def learned(batch):
        flat(lambda done: min(1.6 * done, 1.0), solved=True)(batch)

    assert diagnose(course(learned)).outcome == "healthy"


def loud(batch):
    loudness = np.where(np.array(batch.columns["source"]) == "a", 30.0, 1.0)
    batch.grad_norm = batch.grad_norm * loudness


def test_domination_names_the_slice(course):
    first = diagnose(course(loud)).first
    assert first.mode == "gradient domination"
    assert "source = a" in first.evidence[0]
    assert "without it the ESS" in first.evidence[2]


def test_heavy_norms_in_no_slice_are_no_domination(course):
    def heavy(batch):
        batch.grad_norm = np.exp(3 * batch.rng.normal(size=len(batch.grad_norm)))

    assert "gradient domination" in diagnose(course(heavy)).ruled_out


def test_without_norms_domination_is_not_judged(course):
    found = diagnose(course(without=["grad_norm"]))
    assert found.insufficient["gradient domination"] == "grad_norm is not logged"
