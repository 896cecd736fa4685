"""`mmhealth gate --baseline`: held-out success and means against another run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.errors import RunNotFoundError
from mmhealth.health import default_policy
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import Against, Check, Gate, gate_runs, render_text
from mmhealth.report.baseline import HELD_OUT

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, batch: Any) -> Train:
    """Records a run: share of mixed groups, and successes among 1000 episodes at each step."""

    def record(
        name: str,
        mixed: float = 1.0,
        successes: int | None = 500,
        steps: int = 12,
        episodes: int = 1000,
        **change: Callable[[Any], Any],
    ) -> Path:
        with Recorder(tmp_path / name, strict=True) as recorder:
            for step in range(steps):
                columns = batch(step, mixed=mixed)
                columns |= {key: alter(columns) for key, alter in change.items()}
                recorder.log_step(step, columns)
                if successes is not None:
                    recorder.log_evaluation(
                        step, episodes=episodes, successes=successes, eval_horizon=8
                    )
        return tmp_path / name

    return record


def held(run: Path, baseline: Path, tolerance: float = 0.1, gate: str = "") -> Gate:
    text = default_policy_text().replace("[gate]\n", f"[gate]\n{gate}\n")
    return gate_runs([run], parse_policy(text, "test"), Against(baseline, tolerance))


def nothing(columns: dict[str, Any]) -> list[None]:
    return [None] * len(columns["reward"])


def check(decision: Gate, name: str) -> Check:
    return next(check for check in decision.runs[0].checks if check.name == name)


def test_a_run_is_no_worse_than_itself(train: Train) -> None:
    run = train("run")
    decision = held(run, run)
    assert decision.outcome == "pass"
    assert {check.reading for check in decision.runs[0].checks} == {"holds"}
    names = [check.name for check in decision.runs[0].checks]
    assert names == [HELD_OUT, "nonfinite", "ess_weight", "ess_signal", "ess_contribution"]


@pytest.mark.parametrize(
    ("successes", "episodes", "reading", "outcome"),
    [
        (700, 1000, "holds", "pass"),
        (460, 1000, "holds", "pass"),
        (400, 1000, "insufficient", "insufficient"),
        (300, 1000, "worse", "breach"),
        (46, 100, "insufficient", "insufficient"),
    ],
)
def test_success_is_judged_by_the_interval_of_the_difference(
    train: Train, successes: int, episodes: int, reading: str, outcome: str
) -> None:
    run = train("run", successes=successes, episodes=episodes)
    decision = held(run, train("baseline"))
    found = check(decision, HELD_OUT)
    assert (found.reading, decision.outcome) == (reading, outcome)
    assert found.low is not None
    assert found.high is not None
    assert found.low < successes / episodes - 0.5 < found.high
    assert (found.low >= -0.1, found.high < -0.1) == (reading == "holds", reading == "worse")
    assert {"pass": 0, "breach": 1, "insufficient": 3}[outcome] == decision.exit_code
    assert "at step 11" in found.why


def test_success_is_compared_at_the_last_common_step_and_horizon(
    train: Train, tmp_path: Path, batch: Any
) -> None:
    run, baseline = train("run", steps=6), train("baseline", steps=12)
    assert "at step 5:" in check(held(run, baseline), HELD_OUT).why
    assert "at step 3:" in check(held(run, baseline, gate="to_step = 3"), HELD_OUT).why
    with Recorder(tmp_path / "other", strict=True) as recorder:
        for step in range(6):
            recorder.log_step(step, batch(step))
            recorder.log_evaluation(step, episodes=9, successes=3, eval_horizon=16)
    decision = held(tmp_path / "other", baseline)
    assert check(decision, HELD_OUT).reading == "insufficient"
    assert decision.outcome == "insufficient"


def test_a_metric_must_not_be_worse_beyond_the_tolerance(train: Train) -> None:
    run, baseline = train("run", mixed=0.75), train("baseline", mixed=1.0)
    found = check(held(run, baseline), "ess_signal")
    assert found.reading == "worse"
    assert found.value is not None
    assert found.baseline is not None
    assert found.allowed == pytest.approx(0.1 * found.baseline)
    assert found.baseline - found.value > found.allowed
    decision = held(run, baseline)
    assert decision.exit_code == 1
    assert decision.runs[0].breaching == ()
    assert decision.runs[0].why == "worse than the baseline: ess_signal, ess_contribution"
    assert "worse than the baseline: ess_signal 0.7" in render_text(decision)
    assert held(run, baseline, tolerance=0.3).outcome == "pass"
    assert held(baseline, run).outcome == "pass", "better is not worse"


def test_the_bad_side_of_a_rule_with_above_is_the_high_one(train: Train) -> None:
    alike, unlike = train("alike", mixed=1.0), train("unlike", mixed=0.5)
    policy = parse_policy(
        'version = 1\n[rules.gini]\nmetric = "gini_grad_norm"\nabove = 0.75\nseverity = "critical"',
        "test",
    )
    worse = gate_runs([unlike], policy, Against(alike)).runs[0].checks[1]
    better = gate_runs([alike], policy, Against(unlike)).runs[0].checks[1]
    assert (worse.name, worse.reading, better.reading) == ("gini_grad_norm", "worse", "holds")
    assert worse.baseline is not None
    assert worse.baseline < 0.75, "so the rule's threshold is the scale of the tolerance"
    assert worse.allowed == pytest.approx(0.075)


def test_a_run_that_has_solved_its_task_is_excused(train: Train) -> None:
    run = train("run", mixed=0.1, success=lambda columns: columns["group_id"] >= 0)
    decision = held(run, train("baseline"))
    assert check(decision, "ess_signal").reading == "holds"
    assert "has solved its task" in check(decision, "ess_signal").why
    assert decision.outcome == "pass"


def test_what_the_run_does_not_know_is_insufficient(train: Train, tmp_path: Path) -> None:
    run = train("run", grad_norm=nothing)
    decision = held(run, train("baseline"))
    assert check(decision, "ess_contribution").reading == "insufficient"
    assert decision.outcome == "insufficient"
    unevaluated = held(train("unevaluated", successes=None), tmp_path / "baseline")
    assert check(unevaluated, HELD_OUT).reading == "insufficient"


def test_what_the_baseline_does_not_know_is_not_asked(train: Train, tmp_path: Path) -> None:
    baseline = train("baseline", successes=None, grad_norm=nothing)
    decision = held(train("run"), baseline)
    assert [c.name for c in decision.runs[0].checks] == ["nonfinite", "ess_weight", "ess_signal"]
    assert decision.outcome == "pass"


def test_a_baseline_that_knows_nothing_does_not_pass(train: Train, tmp_path: Path) -> None:
    with Recorder(tmp_path / "empty", strict=True):
        pass
    decision = held(train("run"), tmp_path / "empty")
    assert decision.outcome == "insufficient"
    assert "the baseline knows nothing" in decision.runs[0].why


def test_a_damaged_baseline_does_not_pass(train: Train) -> None:
    baseline = train("baseline")
    segment = next((baseline / "updates").glob("*.parquet"))
    segment.write_bytes(b"")
    decision = held(train("run"), baseline)
    assert decision.outcome == "insufficient"
    assert segment.name in decision.runs[0].why


def test_runs_without_a_common_step_are_insufficient(
    train: Train, tmp_path: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "later", strict=True) as recorder:
        for step in range(50, 56):
            recorder.log_step(step, batch(step))
    decision = held(tmp_path / "later", train("baseline"))
    assert decision.outcome == "insufficient"
    assert "no step in common" in check(decision, "ess_signal").why


def test_an_alert_that_breaches_outweighs_what_is_not_decided(
    collapsing_run: Path, train: Train
) -> None:
    decision = held(collapsing_run, train("baseline", mixed=0.1))
    assert check(decision, HELD_OUT).reading == "insufficient"
    assert decision.outcome == "breach"


def test_a_baseline_that_cannot_be_read_is_an_error(train: Train, tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="nowhere is not a run directory"):
        gate_runs([train("run")], default_policy(), Against(tmp_path / "nowhere"))
