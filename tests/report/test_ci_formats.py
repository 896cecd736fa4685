import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from mmhealth.health import default_policy
from mmhealth.health.policy import parse_policy
from mmhealth.report import append_summary, gate_runs, render_github, render_junit
from mmhealth.report.github import SUMMARY_LIMIT, render_summary

POLICY = """
version = 1
[rules.signal]
metric = "ess_signal"
below = 0.2
severity = "critical"
failure_mode = "collapse"
meaning = "{meaning}"
fix = "None."
[rules.gini]
metric = "gini_grad_norm"
above = 0.75
severity = "warning"
"""


def test_junit_has_a_suite_a_run_and_a_case_a_rule(
    healthy_run: Path, collapsing_run: Path, tmp_path: Path
) -> None:
    gate = gate_runs([healthy_run, collapsing_run, tmp_path / "none"], default_policy())
    root = ET.fromstring(render_junit(gate))
    suites = {suite.get("name"): suite for suite in root}
    rules = [rule.name for rule in default_policy().rules]
    cases = [case.get("name") for case in suites["collapsing"]]
    assert cases == ["data", *rules]
    assert suites["healthy"].get("failures") == "0"
    failed = {case.get("name") for case in suites["collapsing"] if case.find("failure") is not None}
    assert failed == {"ess_collapse"}
    assert suites["collapsing"].get("failures") == root.get("failures") == "1"
    assert suites[str(tmp_path / "none")].find("testcase/error") is not None
    skipped = suites["healthy"].find("testcase[@name='log_ratio_tail_tool']/skipped")
    assert skipped is not None


def test_junit_survives_characters_that_xml_cannot_hold(tmp_path: Path, record: Any) -> None:
    text = POLICY.replace("{meaning}", '\\u0001 <&\\">')
    path = record(tmp_path / "run", [0.1] * 4)
    root = ET.fromstring(render_junit(gate_runs([path], parse_policy(text, "test"))))
    failure = root.find("testsuite/testcase[@name='signal']/failure")
    assert failure is not None
    assert failure.text is not None
    assert failure.text == '\ufffd <&">\nNone.'


def test_github_commands_are_escaped(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "a,b: 100%", [0.1] * 4)
    policy = parse_policy(POLICY.replace("{meaning}", "50 %\\nof\\r: it"), "test")
    error, warning = render_github(gate_runs([path], policy)).splitlines()
    assert error.startswith("::error title=a%2Cb%3A 100%25%3A collapse::signal: ess_signal = ")
    assert error.endswith(". 50 %25%0Aof%0D: it Fix: None.")
    assert warning.startswith("::warning title=a%2Cb%3A 100%25%3A gini::gini: ")


def test_github_is_told_how_many_more_there_are(tmp_path: Path) -> None:
    paths = [tmp_path / f"none-{number}" for number in range(14)]
    lines = render_github(gate_runs(paths, default_policy())).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "::error title=mmhealth::5 more, see the job summary or log"
    assert len(render_github(gate_runs(paths[:10], default_policy())).splitlines()) == 10


def test_github_sees_the_worst_of_all_runs_first_and_ten_in_all(
    tmp_path: Path, record: Any
) -> None:
    text = POLICY.replace("{meaning}", "m") + '[rules.entropy]\nmetric = "entropy"\nabove = 0\n'
    policy = parse_policy(text + 'severity = "info"\n', "test")
    paths = [record(tmp_path / f"mild-{number}", [1.0] * 4) for number in range(3)]
    paths += [record(tmp_path / f"bad-{number}", [0.1] * 4) for number in range(3)]
    gate = gate_runs([tmp_path / "none", *paths], policy)
    lines = render_github(gate).splitlines()
    assert [line.split()[0] for line in lines] == ["::error"] * 4 + ["::warning"] * 3 + [
        "::notice"
    ] * 3
    assert [line.split("%3A")[0].split("=")[1] for line in lines[:3]] == ["bad-0", "bad-1", "bad-2"]
    assert "unreadable data" in lines[3], "a breach comes before what cannot be told"
    assert lines[-1] == "::notice title=mmhealth::4 more, see the job summary or log"
    summary = render_summary(gate)
    rows = [line.split(" | ")[1] for line in summary.splitlines() if line.startswith("| ")][1:]
    assert rows == ["breach"] * 3 + ["unreadable"] + ["pass"] * 3
    assert summary.index("**bad-2") < summary.index("**bad-0: entropy")


def test_the_summary_is_appended_and_stays_below_githubs_limit(
    tmp_path: Path, collapsing_run: Path
) -> None:
    summary = tmp_path / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}
    gate = gate_runs([collapsing_run], default_policy())
    summary.write_text("before\n")
    assert append_summary(gate, environment) == summary
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n## mmhealth gate: breach")
    assert "| collapsing | breach | critical |" in text
    summary.write_bytes(b"x" * (SUMMARY_LIMIT - 300))
    append_summary(gate, environment)
    assert SUMMARY_LIMIT - 300 < summary.stat().st_size < SUMMARY_LIMIT
    lines = summary.read_bytes()[SUMMARY_LIMIT - 300 :].decode().splitlines()
    assert lines[-1] == "*Cut here: GitHub takes 1 MiB at most.*"
    assert set(lines[:-1]) <= {*text.splitlines(), ""}, "no line is cut in two"
    assert append_summary(gate, {}) is None
