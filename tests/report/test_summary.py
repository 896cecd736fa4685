"""The three sentences of a run: what they say, and what they must not say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor, Policy, default_policy
from mmhealth.health.policy import parse_policy
from mmhealth.report import Summary, audit_runs, summarise
from mmhealth.report.audit import RunAudit
from mmhealth.report.blocks import Code, with_code


def audited(path: Path, policy: Policy | None = None) -> RunAudit:
    return audit_runs([Monitor(path, policy)]).runs[0]


def told(path: Path, policy: Policy | None = None) -> Summary:
    return summarise(audited(path, policy))


def one_rule(text: str) -> Policy:
    return parse_policy(f"version = 1\n[rules.r]\n{text}", "p.toml")


SIGNAL = one_rule(
    'metric = "ess_signal"\nbelow = 0.2\nfor_steps = 2\nseverity = "critical"\n'
    'failure_mode = "estimator collapse"\nmeaning = "too few rows carry a signal."\n'
    'fix = "Mend it (from mmhealth.interventions import EssAdaptive)."\n'
)


def test_a_sick_run_is_told_with_its_mode_step_and_numbers(collapsing_run: Path) -> None:
    summary = told(collapsing_run, SIGNAL)
    assert summary.finding.startswith("Estimator collapse since step 6: ")
    assert "was 12.5 % against a threshold of 20 %" in summary.finding
    assert "critical rule r fired at step 7" in summary.finding
    assert "at step 13, the last judged" in summary.finding
    assert summary.action.startswith("Mend it (from mmhealth.interventions import EssAdaptive).")


def sourced_run(path: Path, heavy: int, column: str = "source", **more: Any) -> Path:
    """Rows of one source hold nearly all of the signal."""
    rng = np.random.default_rng(0)
    with Recorder(path, strict=True) as recorder:
        for step in range(4):
            advantage = np.where(np.arange(128) < heavy, 50.0, 1.0) + rng.random(128)
            columns = {"advantage": advantage} | more
            source = ["judge"] * heavy + ["verifier"] * (128 - heavy)
            recorder.log_step(step, columns | {column: source})
    return path


def test_a_slice_that_stands_out_is_named_with_what_is_left_without_it(tmp_path: Path) -> None:
    run = audited(sourced_run(tmp_path / "run", heavy=12), SIGNAL)
    summary = summarise(run)
    assert summary.why.startswith("At step 1 the 9.38 % of rows with source = judge hold ")
    whole, [slice_] = (
        run.evidence[0].blame.whole,
        [item for item in run.evidence[0].blame.slices if item.slice == "judge"],
    )
    assert whole is not None
    assert slice_.without.ess_fraction is not None
    assert whole.ess_fraction is not None
    assert slice_.without.ess_fraction > 0.9
    assert whole.ess_fraction < 0.2


def test_no_slice_is_named_where_none_stands_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(3):
            lone = np.where(np.arange(64) == step, 100.0, 1.0)
            recorder.log_step(step, {"advantage": lone, "source": rng.choice(["a", "b"], 64)})
    summary = told(tmp_path / "run", SIGNAL)
    assert summary.why == (
        "Too few rows carry a signal. No slice of step 1 stands out beyond chance."
    )
    assert "source" not in summary.why


def test_a_slice_without_which_the_ess_would_be_lower_is_not_blamed(tmp_path: Path) -> None:
    size = [10.0] * 50 + [0.0] * 50 + [10.0] * 2 + [0.0] * 98
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(3):
            source = ["big"] * 100 + ["small"] * 100
            recorder.log_step(step, {"advantage": size, "source": source})
    rule = one_rule('metric = "ess_signal"\nbelow = 0.4\nmeaning = "few rows."\n')
    run = audited(tmp_path / "run", rule)
    [big] = [s for s in run.evidence[0].blame.slices if s.slice == "big" and s.column == "source"]
    assert big.blame > 0.4
    assert summarise(run).why == "Few rows. No slice of step 0 stands out beyond chance."


def test_what_if_is_quoted_only_where_it_reaches_the_threshold(
    collapsing_run: Path, tmp_path: Path
) -> None:
    cured = told(collapsing_run, SIGNAL)
    assert "What-if: dead groups sampled anew would have moved" in cured.action
    assert "on the good side of the threshold of 20 %" in cured.action
    unknown = told(sourced_run(tmp_path / "bare", 12, "kind"), SIGNAL)
    assert unknown.action.endswith("too little data to say what would have helped at step 1.")
    none = told(sourced_run(tmp_path / "alike", 12, "kind", length=[9] * 128), SIGNAL)
    assert none.action.endswith("would have reached 20 % at that step.")


def test_an_alert_on_no_ess_gets_its_meaning_and_no_slice(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(3):
            recorder.log_step(step, {"entropy": [0.5] * 64, "source": ["a", "b"] * 32})
    rule = one_rule('metric = "entropy"\nbelow = 1.0\nmeaning = "it stopped exploring."\n')
    summary = told(tmp_path / "run", rule)
    assert summary.finding.startswith("Rule r is breached since step 0: the policy entropy was 0.5")
    assert summary.why == "It stopped exploring."
    assert summary.action.startswith("The policy names no fix")


def test_a_critical_alert_that_resolved_is_said_to_be_over(tmp_path: Path, record: Any) -> None:
    run = record(tmp_path / "run", [1.0] * 4 + [0.1] * 4 + [1.0] * 6)
    summary = told(run, SIGNAL)
    assert "over since step 8" in summary.finding
    assert summary.action.startswith("Nothing fires now")


def test_a_healthy_run_says_what_could_not_be_judged(healthy_run: Path) -> None:
    run = audited(healthy_run)
    summary = summarise(run)
    never = run.monitor.rule_engine.never_judged()
    judged = len(run.rules) - len(never)
    assert summary.finding.startswith("No warning or critical alert fires at step 11: ")
    assert f"{judged} of {len(run.rules)} rules could be judged" in summary.finding
    assert "log_ratio_tail_tool" in summary.finding
    assert summary.action.startswith("Nothing, by the rules that could be judged; log what")


def test_a_forecast_is_on_the_way(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(45):
            recorder.log_step(step, {"entropy": [1.0 - 0.018 * step + 0.01 * (step % 2)]})
    summary = told(tmp_path / "run")
    assert summary.why.startswith("On the way, if the trend goes on: entropy_collapse")
    assert summary.action.startswith("Nothing yet by the rules; if the trend goes on: ")


def test_a_run_without_columns_or_steps_claims_nothing(tmp_path: Path, record: Any) -> None:
    with Recorder(tmp_path / "bare", strict=True) as recorder:
        recorder.log_step(0, {"reward": [1.0, 0.0]})
    bare = told(tmp_path / "bare")
    assert bare.finding.startswith("Nothing can be said of the training: ")
    assert "is not logged" in bare.why
    empty = told(record(tmp_path / "empty", []))
    assert "no step is complete yet" in empty.finding
    assert empty.why == "There is no step to look at."


def test_lost_data_are_said_in_the_finding(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 12)
    segment = next((path / "trajectories").glob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-10])
    assert "Data are missing, numbers are of what is left: " in told(path).finding


def test_evidence_is_of_two_steps_however_long_the_run(tmp_path: Path, record: Any) -> None:
    run = audited(record(tmp_path / "run", [1.0] * 3 + [0.1] * 30), SIGNAL)
    assert [item.step for item in run.evidence] == [4, 32]
    assert [item.blame.basis for item in run.evidence] == ["signal", "signal"]
    assert len(audited(record(tmp_path / "short", [0.1] * 2), SIGNAL).evidence) == 1


def test_import_lines_of_the_default_policy_are_code_and_import() -> None:
    codes = [
        part.text
        for rule in default_policy().rules
        for part in with_code(rule.fix)
        if isinstance(part, Code)
    ]
    assert len(codes) > 3
    for line in codes:
        exec(line, {})


@pytest.mark.parametrize("text", ["", "no code", "from here to there", "from a import b."])
def test_words_with_code_lose_no_character(text: str) -> None:
    parts = with_code(text)
    assert "".join(p.text if isinstance(p, Code) else str(p) for p in parts) == text
