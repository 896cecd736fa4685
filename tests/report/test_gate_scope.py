"""The gate's step range and its choice of rules, on real runs."""

from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import Gate, gate_runs, render_text


def gate(path: Path, *lines: str) -> Gate:
    text = default_policy_text().replace("[gate]\n", "\n".join(["[gate]", *lines, ""]))
    return gate_runs([path], parse_policy(text, "test"))


@pytest.fixture
def recovered(tmp_path: Path, record: Any) -> Path:
    """Collapsed at steps 3 to 7: ess_collapse fires at step 7 and resolves at step 12."""
    return record(tmp_path / "recovered", [1.0] * 3 + [0.1] * 5 + [1.0] * 7)


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ((), "pass"),
        (("to_step = 11",), "breach"),
        (("to_step = 12",), "pass"),
        (("to_step = 4",), "pass"),
        (("from_step = 0",), "breach"),
        (("from_step = 12",), "pass"),
        (("from_step = 0", "to_step = 4"), "pass"),
        (("from_step = 11", "to_step = 900"), "breach"),
        (("from_step = 900",), "insufficient"),
        (("to_step = 900",), "insufficient"),
    ],
)
def test_no_alert_may_fire_at_any_step_of_the_range(
    recovered: Path, lines: tuple[str, ...], outcome: str
) -> None:
    decision = gate(recovered, *lines)
    assert decision.outcome == outcome
    if outcome == "breach":
        assert {alert.step for alert in decision.runs[0].breaching} == {7}
        assert "ess_collapse (since step 7)" in decision.runs[0].why


def test_a_range_that_was_not_reached_says_where_the_run_ends(recovered: Path) -> None:
    (run,) = gate(recovered, "from_step = 900").runs
    assert run.why == "no step from 900 to 14 could be judged; the last one is 14"


def test_ignored_rules_do_not_breach_and_are_still_shown(collapsing_run: Path) -> None:
    assert gate(collapsing_run).outcome == "breach"
    decision = gate(collapsing_run, 'ignore = ["ess_collapse", "contribution_collapse"]')
    assert decision.outcome == "pass"
    assert decision.runs[0].why.startswith(
        "no alert at critical or above fires (ignore = ess_collapse, contribution_collapse); firing"
    )
    assert "does not breach: critical: ess_collapse" in render_text(decision)


def test_only_the_rules_that_are_named_count(collapsing_run: Path) -> None:
    decision = gate(collapsing_run, 'rules = ["ess_weight", "ess_collapse"]')
    assert [alert.rule for alert in decision.runs[0].breaching] == ["ess_collapse"]
    assert gate(collapsing_run, 'rules = ["ess_weight"]').outcome == "pass"


def test_rules_that_never_had_data_do_not_pass(collapsing_run: Path) -> None:
    decision = gate(collapsing_run, 'rules = ["retreat"]')
    assert (decision.outcome, decision.exit_code) == ("insufficient", 3)
    assert "none of the rules that count ever had data: retreat" in decision.runs[0].why


def test_a_range_without_data_of_the_rules_that_count_does_not_pass(
    tmp_path: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(12):
            columns = batch(step)
            if step >= 6:
                del columns["advantage"], columns["grad_norm"], columns["log_weight"]
            recorder.log_step(step, columns)
    rules = 'rules = ["ess_collapse"]'
    assert gate(tmp_path / "run", rules, "from_step = 3").outcome == "pass"
    decision = gate(tmp_path / "run", rules, "from_step = 6")
    assert decision.outcome == "insufficient"
    assert "no metric of a rule that counts is known at steps 6 to 11" in decision.runs[0].why
