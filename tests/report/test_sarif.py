"""What the SARIF of a gate says; tests/report/test_gate_schemas.py holds it against the schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmhealth.health import Policy, default_policy
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import Against, gate_runs, render_sarif
from mmhealth.report.sarif import BASELINE_RULE

POLICY = """
version = 1
[rules.signal]
metric = "ess_signal"
below = 0.2
severity = "critical"
[rules.gini]
metric = "gini_grad_norm"
above = 0.75
[rules.entropy]
metric = "entropy"
above = 0
severity = "info"
"""


def sarif(
    *paths: Path, base: Path, policy: Policy | None = None, against: Against | None = None
) -> dict[str, Any]:
    gate = gate_runs(paths, policy or parse_policy(POLICY, "test"), against)
    log = json.loads(render_sarif(gate, base))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    return run


def place(result: dict[str, Any]) -> str:
    (location,) = result["locations"]
    return location["physicalLocation"]["artifactLocation"]["uri"]


def test_a_rule_a_policy_rule_and_a_result_an_alert(collapsing_run: Path) -> None:
    run = sarif(collapsing_run, base=collapsing_run.parent, policy=default_policy())
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.name for rule in default_policy().rules]
    assert all(rule["fullDescription"]["text"] and rule["help"]["text"] for rule in rules)
    alerts = gate_runs([collapsing_run], default_policy()).runs[0].audit.standing
    assert [result["ruleId"] for result in run["results"]] == [alert.rule for alert in alerts]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_levels_are_those_of_the_gate(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [0.1] * 4)
    run = sarif(path, base=tmp_path)
    assert {r["ruleId"]: r["level"] for r in run["results"]} == {
        "signal": "error",
        "gini": "warning",
        "entropy": "note",
    }
    assert run["invocations"][0] == {
        "executionSuccessful": True,
        "exitCode": 1,
        "toolExecutionNotifications": [],
    }
    text = POLICY.replace(
        "version = 1", 'version = 1\n[gate]\nfail_on = "warning"\nignore = ["signal"]'
    )
    ignored = sarif(path, base=tmp_path, policy=parse_policy(text, "test"))
    levels = {r["ruleId"]: r["level"] for r in ignored["results"]}
    assert levels == {"signal": "warning", "gini": "error", "entropy": "note"}
    defaults = [
        rule["defaultConfiguration"]["level"] for rule in ignored["tool"]["driver"]["rules"]
    ]
    assert defaults == ["warning", "error", "note"]


def test_an_alert_that_resolved_has_no_result(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 3 + [0.1] * 5 + [1.0] * 9)
    assert sarif(path, base=tmp_path, policy=default_policy())["results"] == []
    text = default_policy_text().replace("[gate]\n", "[gate]\nfrom_step = 0\n")
    results = sarif(path, base=tmp_path, policy=parse_policy(text, "test"))["results"]
    assert [r["ruleId"] for r in results] == ["ess_collapse"], "but for one that breaches"


def test_a_result_lies_at_run_json_relative_to_the_base(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "runs" / "a b", [0.1] * 4)
    assert {place(r) for r in sarif(path, base=tmp_path)["results"]} == {"runs/a%20b/run.json"}
    assert {place(r) for r in sarif(path, base=path)["results"]} == {"run.json"}
    outside = sarif(path, base=tmp_path / "elsewhere")["results"]
    assert {place(r) for r in outside} == {"a%20b/run.json"}


def test_the_working_directory_is_the_base(
    tmp_path: Path, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "runs" / "today", [0.1] * 4)
    monkeypatch.chdir(tmp_path)
    gate = gate_runs([Path("runs/../runs/today")], parse_policy(POLICY, "test"))
    results = json.loads(render_sarif(gate))["runs"][0]["results"]
    assert {place(result) for result in results} == {"runs/today/run.json"}


def test_no_path_of_the_machine_is_told(tmp_path: Path, record: Any) -> None:
    runs = [record(tmp_path / name / "run", [0.1] * 4) for name in ("a", "b")]
    record(tmp_path / "base", [1.0] * 4)
    next((runs[1] / "updates").glob("*.parquet")).write_bytes(b"")
    paths = [*runs, tmp_path / "none", record(tmp_path / "empty", [])]
    gate = gate_runs(
        paths, parse_policy(POLICY, str(tmp_path / "p.toml")), Against(tmp_path / "base")
    )
    unread = gate_runs(paths, parse_policy(POLICY, "test"), Against(tmp_path / "nowhere"))
    for base in (tmp_path, tmp_path / "elsewhere"):
        assert str(tmp_path) not in render_sarif(gate, base)
        assert str(tmp_path) not in render_sarif(unread, base)


def test_runs_without_usable_data_are_notifications(tmp_path: Path, record: Any) -> None:
    run = sarif(tmp_path / "none", record(tmp_path / "empty", []), base=tmp_path)
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    texts = [note["message"]["text"] for note in invocation["toolExecutionNotifications"]]
    assert texts[0] == "empty: insufficient: no step is complete yet"
    assert texts[1].startswith("none: unreadable: none is not a run directory")
    assert run["results"] == []


def prints(name: str, *paths: Path, base: Path) -> list[str]:
    return sorted(r["partialFingerprints"][name] for r in sarif(*paths, base=base)["results"])


@pytest.mark.parametrize("name", ["mmhealthAlert/v1", "primaryLocationLineHash"])
def test_fingerprints_are_stable_and_tell_alerts_apart(
    tmp_path: Path, record: Any, name: str
) -> None:
    first, second = (record(tmp_path / folder / "run", [0.1] * 4) for folder in ("a", "b"))
    alone = prints(name, first, base=tmp_path)
    assert prints(name, first, base=tmp_path) == alone
    both = prints(name, first, second, base=tmp_path)
    assert len(set(both)) == 6
    assert set(alone) < set(both), "whatever other runs are given"


def test_one_fingerprint_follows_the_alert_the_other_stays_with_the_place(
    tmp_path: Path, record: Any
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    record(run, [0.1] * 4)
    alert = prints("mmhealthAlert/v1", run, base=tmp_path)
    place = prints("primaryLocationLineHash", run, base=tmp_path)
    run.rename(moved)
    assert prints("mmhealthAlert/v1", moved, base=tmp_path) == alert
    record(run, [1.0] + [0.1] * 5)
    assert prints("primaryLocationLineHash", run, base=tmp_path) == place
    assert not set(prints("mmhealthAlert/v1", run, base=tmp_path)) & set(alert)


def test_alerts_of_one_rule_in_one_run_are_told_apart(tmp_path: Path, record: Any) -> None:
    again = [1.0] * 3 + [0.1] * 3
    path = record(tmp_path / "run", again + again)
    text = POLICY.replace("version = 1", "version = 1\n[gate]\nfrom_step = 0")
    results = sarif(path, base=tmp_path, policy=parse_policy(text, "test"))["results"]
    hashes = [
        result["partialFingerprints"]["primaryLocationLineHash"]
        for result in results
        if result["ruleId"] == "signal"
    ]
    assert [text[-2:] for text in hashes] == [":1", ":2"]


def test_a_run_worse_than_the_baseline_is_a_result(tmp_path: Path, record: Any) -> None:
    worse = record(tmp_path / "worse", [0.6] * 12)
    baseline = record(tmp_path / "baseline", [1.0] * 12)
    run = sarif(worse, base=tmp_path, policy=default_policy(), against=Against(baseline))
    assert run["tool"]["driver"]["rules"][-1]["id"] == BASELINE_RULE
    results = [result for result in run["results"] if result["ruleId"] == BASELINE_RULE]
    assert [result["level"] for result in results] == ["error", "error"]
    assert results[0]["message"]["text"].startswith("worse than the baseline: ess_signal 0.6")
    assert len({r["partialFingerprints"]["primaryLocationLineHash"] for r in results}) == 2
