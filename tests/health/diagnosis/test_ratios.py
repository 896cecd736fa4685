"""Four causes of degenerate weights, each next to its nearest rival."""

import numpy as np
import pytest

from mmhealth.health.diagnosis import diagnose


def first(run):
    found = diagnose(run)
    assert found.outcome == "diagnosed", found
    return found.first


def wide(part, spread=1.5):
    def spoil(batch):
        batch.parts[part] = spread * batch.rng.normal(size=len(batch.grad_norm))

    return spoil


def old(batch):
    batch.columns["behavior_lag"] = np.full(len(batch.grad_norm), 12)


def tokens(share, spread):
    """Log-ratios of the last ``share`` of the tokens, as wide as ``spread`` of the run's course."""

    def spoil(batch):
        count = int(share * batch.ratios.size)
        batch.ratios[-count:] = spread(batch.done) * batch.rng.normal(size=count)

    return spoil


def test_mismatch_shows_on_fresh_batches_and_all_tokens(course):
    finding = first(course(wide("mismatch"), tokens(1.0, lambda _: 0.5)))
    assert finding.mode == "train-inference mismatch"
    assert finding.since == 0
    assert "ESS" in finding.evidence[0]
    assert finding.rivals["staleness"].startswith("ruled out")
    assert finding.rivals["tool-context variance growth"].startswith("ruled out")


def test_staleness_is_age_that_shows_in_the_weights(course):
    finding = first(course(wide("age"), old))
    assert finding.mode == "staleness"
    assert "12.0 updates old" in finding.evidence[0]
    assert finding.rivals["train-inference mismatch"].startswith("ruled out")
    assert finding.rivals["estimator collapse"].startswith("ruled out")


def test_age_alone_is_no_staleness(course):
    assert diagnose(course(old)).outcome == "healthy"


@pytest.mark.parametrize("part", ["reuse", "age"])
def test_collapse_on_a_fresh_batch(course, part):
    finding = first(course(wide(part, 2.5)))
    assert finding.mode == "estimator collapse"
    assert "updates of a trajectory" in finding.evidence[0]
    assert finding.rivals["staleness"].startswith("ruled out")


def test_tool_context_grows_after_tools_alone(course):
    def disagree(batch):
        batch.parts["mismatch"] = 2 * batch.done * batch.rng.normal(size=len(batch.grad_norm))

    finding = first(course(disagree, tokens(0.25, lambda done: 0.05 + 3 * done)))
    assert finding.mode == "tool-context variance growth"
    assert 0 < finding.since < 15
    assert "early, middle and late" in finding.evidence[0]
    assert finding.rivals["train-inference mismatch"].startswith("ruled out")


def test_a_tail_after_tools_that_does_not_grow_is_none(course):
    found = diagnose(course(tokens(0.25, lambda _: 2.0)))
    assert "tool-context variance growth" in found.ruled_out


@pytest.mark.parametrize(
    ("without", "mode"),
    [
        ("log_weight_mismatch", "train-inference mismatch"),
        ("behavior_lag", "staleness"),
        ("log_ratios", "tool-context variance growth"),
    ],
)
def test_missing_columns_are_insufficient_data(course, without, mode):
    found = diagnose(course(without=[without]))
    assert "not logged" in found.insufficient[mode] or "is logged" in found.insufficient[mode]
    assert found.outcome == "healthy"
    assert "could not be judged" in found.why


def test_without_its_mismatch_part_a_rival_stays_open(course):
    finding = first(course(wide("age"), old, without=["log_weight_mismatch"]))
    assert finding.mode == "staleness"
    assert finding.rivals["train-inference mismatch"].startswith("not ruled out")
