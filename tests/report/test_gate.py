from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import default_policy
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import Gate, gate_runs, render_text


def gate(*paths: Path, fail_on: str = "critical") -> Gate:
    text = default_policy_text().replace('fail_on = "critical"', f'fail_on = "{fail_on}"')
    return gate_runs(paths, parse_policy(text, "test"))


def test_a_healthy_run_passes(healthy_run: Path) -> None:
    decision = gate(healthy_run)
    assert (decision.outcome, decision.exit_code) == ("pass", 0)


def test_a_collapsing_run_breaches_and_says_why(collapsing_run: Path) -> None:
    decision = gate(collapsing_run)
    assert (decision.outcome, decision.exit_code) == ("breach", 1)
    assert {(a.metric, a.step) for a in decision.runs[0].breaching} == {("ess_signal", 10)}
    assert "since step 10" in decision.runs[0].why
    text = render_text(decision)
    assert "Fix: Restore outcome contrast" in text
    assert "does not breach: warning: gini" in text


def test_a_resolved_alert_does_not_breach(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 3 + [0.1] * 5 + [1.0] * 5)
    decision = gate(path)
    assert decision.outcome == "pass"
    assert decision.runs[0].audit is not None
    assert decision.runs[0].audit.verdict.name == "warning"


def test_fail_on_decides_which_alerts_breach(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(20):
            columns = batch(step)
            columns["entropy"] *= 1.0 if step < 12 else 0.01
            recorder.log_step(step, columns)
    assert gate(tmp_path / "run").outcome == "pass"
    for severity in ("warning", "info"):
        decision = gate(tmp_path / "run", fail_on=severity)
        assert decision.exit_code == 1
        assert [alert.rule for alert in decision.runs[0].breaching] == ["entropy_collapse"]


def test_a_superseded_alert_does_not_breach(tmp_path: Path, record: Any, batch: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 4 + [0.1] * 6)
    with Recorder(path, start_step=4, strict=True) as recorder:
        for step in range(4, 10):
            recorder.log_step(step, batch(step))
    assert gate(path).outcome == "pass"


def test_a_half_written_step_does_not_breach(tmp_path: Path, record: Any, batch: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 6)
    with Recorder(path, rank=0, world_size=2, attempt=1, start_step=6, strict=True) as recorder:
        for step in range(6, 10):
            recorder.log_step(step, batch(step, mixed=0.1))
    assert gate(path).outcome == "pass"


def test_a_solved_task_does_not_breach(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(12):
            columns = batch(step, mixed=1.0 if step < 4 else 0.1)
            if step >= 4:
                failed = columns["group_id"] >= 1
                columns["success"] = columns["success"] | failed
                columns["reward"] = columns["success"].astype(np.float64)
            recorder.log_step(step, columns)
    decision = gate(tmp_path / "run")
    assert decision.outcome == "pass"
    assert decision.runs[0].audit is not None
    assert decision.runs[0].audit.rules["ess_collapse"] == "solved"


def test_an_empty_run_is_insufficient(tmp_path: Path, record: Any) -> None:
    decision = gate(record(tmp_path / "run", []))
    assert (decision.outcome, decision.exit_code) == ("insufficient", 3)


def test_a_run_without_any_metric_is_insufficient(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(4):
            recorder.log_step(step, {"source": ["a"] * 40})
    assert gate(tmp_path / "run").outcome == "insufficient"


def test_damaged_files_do_not_pass(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 6)
    segment = next((path / "updates").glob("*.parquet"))
    segment.write_bytes(b"")
    decision = gate(path)
    assert (decision.outcome, decision.exit_code) == ("insufficient", 3)
    assert segment.name in decision.runs[0].why


def test_an_unreadable_run_is_named_and_a_breach_outweighs_it(
    tmp_path: Path, healthy_run: Path, collapsing_run: Path
) -> None:
    decision = gate(healthy_run, tmp_path / "nowhere")
    assert (decision.outcome, decision.exit_code) == ("unreadable", 3)
    assert "nowhere is not a run directory" in decision.runs[1].why
    assert gate(tmp_path / "nowhere", collapsing_run).exit_code == 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_run_given_several_times_is_judged_once(healthy_run: Path, times: int) -> None:
    assert len(gate_runs([healthy_run] * times, default_policy()).runs) == 1


POLICY = """
version = 1
[gate]
{gate}
[rules.broken]
metric = "nonfinite"
above = 0
severity = "critical"
[rules.signal]
metric = "ess_signal"
below = 0.2
severity = "critical"
[rules.entropy]
metric = "entropy"
below = 0.2
"""


def test_a_run_in_which_no_rule_that_can_fail_had_data_does_not_pass(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(4):
            recorder.log_step(step, {"entropy": [1.0] * 64})
    decision = gate_runs([tmp_path / "run"], parse_policy(POLICY.format(gate=""), "test"))
    assert (decision.outcome, decision.exit_code) == ("insufficient", 3)
    assert decision.runs[0].why == "none of the rules that count ever had data: signal"
    warns = parse_policy(POLICY.format(gate='fail_on = "warning"'), "test")
    passed = gate_runs([tmp_path / "run"], warns)
    assert passed.outcome == "pass", "a rule that can fail had data"
    assert passed.runs[0].why.endswith("never judged for want of data: signal")
    assert gate(tmp_path / "run").outcome == "insufficient", "so with the default policy"


def test_rules_on_the_data_count_where_no_other_can_fail(
    tmp_path: Path, healthy_run: Path, batch: Any
) -> None:
    text = POLICY.format(gate='ignore = ["signal", "entropy"]')
    policy = parse_policy(text, "test")
    assert gate_runs([healthy_run], policy).outcome == "pass"
    with Recorder(tmp_path / "run", strict=True) as recorder:
        recorder.log_step(0, batch(0) | {"grad_norm": [float("nan")] * 64})
    decision = gate_runs([tmp_path / "run"], policy)
    assert [alert.rule for alert in decision.runs[0].breaching] == ["broken"]
