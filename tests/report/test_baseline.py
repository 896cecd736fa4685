"""`mmhealth gate --baseline`: held-out success and means against another run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.health import default_policy
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import Against, Check, Gate, gate_runs, render_text
from mmhealth.report.baseline import HELD_OUT

AT_8 = f"{HELD_OUT} at horizon 8"
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
    assert names == [AT_8, "nonfinite", "ess_weight", "ess_signal", "ess_contribution"]


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
    found = check(decision, AT_8)
    assert (found.reading, decision.outcome) == (reading, outcome)
    assert found.low is not None
    assert found.high is not None
    assert found.low < successes / episodes - 0.5 < found.high
    assert (found.low >= -0.1, found.high < -0.1) == (reading == "holds", reading == "worse")
    assert {"pass": 0, "breach": 1, "insufficient": 3}[outcome] == decision.exit_code
    assert "step 11:" in found.why


def test_success_is_compared_at_the_last_common_step_and_horizon(
    train: Train, tmp_path: Path, batch: Any
) -> None:
    run, baseline = train("run", steps=6), train("baseline", steps=12)
    assert "step 5:" in check(held(run, baseline), AT_8).why
    assert "step 3:" in check(held(run, baseline, gate="to_step = 3"), AT_8).why
    with Recorder(tmp_path / "other", strict=True) as recorder:
        for step in range(6):
            recorder.log_step(step, batch(step))
            recorder.log_evaluation(step, episodes=9, successes=3, eval_horizon=16)
    decision = held(tmp_path / "other", baseline)
    assert check(decision, AT_8).reading == "insufficient"
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


def entropies(value: float) -> Callable[[Any], Any]:
    return lambda columns: [value] * len(columns["reward"])


@pytest.mark.parametrize(
    ("succeeds", "reading"), [(True, "holds"), (False, "worse"), (None, "insufficient")]
)
def test_settled_choices_count_only_while_most_prompts_fail(
    train: Train, succeeds: bool | None, reading: str
) -> None:
    def success(columns: dict[str, Any]) -> list[Any]:
        rows = range(len(columns["reward"]))
        return [None if succeeds is None else succeeds and row % 2 == 0 for row in rows]

    known = {"success": success, "reward": lambda columns: [0.5] * len(columns["reward"])}
    run = train("run", strategic_entropy=entropies(0.2), **known)
    baseline = train("baseline", strategic_entropy=entropies(1.2))
    assert check(held(run, baseline), "strategic_entropy").reading == reading


def test_what_the_run_does_not_know_is_insufficient(train: Train, tmp_path: Path) -> None:
    run = train("run", grad_norm=nothing)
    decision = held(run, train("baseline"))
    assert check(decision, "ess_contribution").reading == "insufficient"
    assert decision.outcome == "insufficient"
    unevaluated = held(train("unevaluated", successes=None), tmp_path / "baseline")
    assert check(unevaluated, AT_8).reading == "insufficient"


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
    assert check(decision, AT_8).reading == "insufficient"
    assert decision.outcome == "breach"


def test_a_baseline_that_cannot_be_read_does_not_pass(
    train: Train, tmp_path: Path, collapsing_run: Path
) -> None:
    against = Against(tmp_path / "nowhere")
    decision = gate_runs([train("run")], default_policy(), against)
    assert (decision.outcome, decision.exit_code) == ("insufficient", 3)
    assert "the baseline cannot be read: " in decision.runs[0].why
    assert "nowhere is not a run directory" in render_text(decision)
    assert gate_runs([collapsing_run], default_policy(), against).outcome == "breach"


Evaluated = Callable[..., Path]


@pytest.fixture
def evaluate(tmp_path: Path, batch: Any) -> Evaluated:
    """Records a run that is evaluated on 1000 episodes: successes by horizon and step."""

    def record(name: str, steps: int, successes: dict[int, dict[int, int]]) -> Path:
        with Recorder(tmp_path / name, strict=True) as recorder:
            for step in range(steps):
                recorder.log_step(step, batch(step))
            for horizon, course in successes.items():
                for step, won in course.items():
                    recorder.log_evaluation(
                        step, episodes=1000, successes=won, eval_horizon=horizon
                    )
        return tmp_path / name

    return record


def test_success_is_compared_at_each_horizon_at_its_own_last_common_step(
    evaluate: Evaluated,
) -> None:
    early = {0: 100, 1: 100, 2: 100}
    baseline = evaluate("baseline", 20, {8: early, 64: {19: 900}})
    decision = held(evaluate("run", 20, {64: {19: 100}, 8: early}), baseline)
    found = decision.runs[0].checks[:2]
    assert [(c.name, c.reading) for c in found] == [
        (AT_8, "holds"),
        (f"{HELD_OUT} at horizon 64", "worse"),
    ]
    assert ["step 2:" in found[0].why, "step 19:" in found[1].why] == [True, True]
    assert (found[1].value, found[1].baseline, found[1].allowed) == (0.1, 0.9, 0.1)
    assert decision.outcome == "breach"
    assert decision.runs[0].why == f"worse than the baseline: {HELD_OUT} at horizon 64"
    lacking = held(evaluate("lacking", 20, {8: early}), baseline)
    assert check(lacking, f"{HELD_OUT} at horizon 64").reading == "insufficient"


@pytest.mark.parametrize(
    ("steps", "run", "reading"),
    [
        (20, {0: 100, 18: 900}, "insufficient"),
        (20, {0: 100, 19: 900}, "insufficient"),
        (20, {0: 100, 19: 900, 20: 900}, "holds"),
        (20, {0: 100, 19: 100, 20: 100}, "worse"),
        (20, {0: 100, 19: 100}, "worse"),
        (19, {0: 100}, "holds"),
        (20, {0: 100}, "insufficient"),
        (15, {5: 100}, "insufficient"),
    ],
)
def test_what_the_baseline_was_evaluated_at_later_and_the_run_not_is_insufficient(
    evaluate: Evaluated, steps: int, run: dict[int, int], reading: str
) -> None:
    baseline = evaluate("baseline", 20, {8: {0: 100, 19: 900, 20: 900}})
    decision = held(evaluate("run", steps, {8: run}), baseline)
    assert check(decision, AT_8).reading == reading


def test_a_baseline_that_was_only_evaluated_beyond_the_run_is_insufficient(
    evaluate: Evaluated,
) -> None:
    decision = held(evaluate("run", 6, {}), evaluate("baseline", 12, {8: {11: 900}}))
    assert check(decision, HELD_OUT).reading == "insufficient"
    assert "only at steps that the run has not reached" in decision.runs[0].why


@pytest.mark.parametrize("mixed", [1.0, 0.1])
def test_a_solved_task_is_excused_whatever_the_baseline_is(train: Train, mixed: float) -> None:
    solved = {"success": lambda columns: columns["group_id"] >= 0}
    decision = held(train("run", mixed=0.1, **solved), train("baseline", mixed=mixed, **solved))
    assert check(decision, "ess_signal").reading == "holds"
