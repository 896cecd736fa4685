"""Verdicts on runs that could not be judged, or only in part."""

from pathlib import Path
from typing import Any

from mmhealth import Recorder
from mmhealth.health import Monitor, Verdict, default_policy, judge_run
from mmhealth.report import gate_runs


def verdict(path: Path, columns: dict[str, Any], steps: int = 30) -> Verdict:
    with Recorder(path, strict=True) as rec:
        for step in range(steps):
            rec.log_step(step, columns)
    monitor = Monitor(path)
    monitor.poll()
    return judge_run(monitor)


def test_too_few_rows_for_every_rule_are_insufficient(tmp_path: Path) -> None:
    found = verdict(tmp_path, {"advantage": [1.0] + [0.0] * 15, "reward": [0.5] * 16})
    assert found.name == "insufficient"
    assert "16 rows" in found.why
    assert "32" in found.why
    assert "ess_collapse" in found.why
    assert gate_runs([tmp_path], default_policy()).exit_code == 3


def test_entropy_alone_can_be_judged_and_the_verdict_names_what_was_not(tmp_path: Path) -> None:
    found = verdict(tmp_path, {"advantage": [1.0] + [0.0] * 15, "entropy": [1.0] * 16})
    assert found.name == "healthy"
    assert "never judged" in found.why
    for rule in ("ess_weight", "ess_signal", "ess_collapse", "ess_contribution", "gini"):
        assert rule in found.why
    decision = gate_runs([tmp_path], default_policy())
    assert decision.exit_code == 3
    assert "ess_collapse" in decision.runs[0].why


def test_a_judged_ess_needs_no_such_words(tmp_path: Path) -> None:
    found = verdict(tmp_path, {"advantage": [1.0, -1.0] * 16})
    assert (found.name, found.why) == ("healthy", "no alert fires at step 29")


def test_data_only_at_hidden_steps_do_not_count(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"advantage": [1.0, -1.0] * 16}, steps=3).name == "healthy"
    with Recorder(tmp_path, start_step=0) as rec:
        rec.log_step(0, {"source": ["a"] * 32})
    monitor = Monitor(tmp_path)
    monitor.poll()
    assert judge_run(monitor).name == "insufficient"
