"""The gate where rules demand intervals: pass, breach, or not decided, in every format."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.health.policy import Policy, parse_policy
from mmhealth.report import (
    Against,
    Gate,
    audit_as_dict,
    audit_runs,
    dump_json,
    gate_as_dict,
    gate_runs,
    print_audit,
    render_github,
    render_junit,
    render_sarif,
    render_text,
)
from mmhealth.report.html import render_html

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "gate.schema.json").read_text(encoding="utf-8"))
RULE = """
[rules.thin]
metric = "ess_contribution"
below = 0.2
for_steps = 2
severity = "critical"
demand_interval = 0.9
"""
STATED = "90 % interval"


def policy(gate: str = "", rule: str = RULE) -> Policy:
    return parse_policy(f"version = 1\n[gate]\n{gate}\n{rule}", "test")


def record(path: Path, shares: Iterable[float], *, groups: int = 256, **drop: Any) -> Path:
    """A step for each share of rows that hold something: the ESS of the contribution."""
    with Recorder(path, strict=True) as recorder:
        for step, share in enumerate(shares):
            rng, rows = np.random.default_rng(step), 4 * groups
            columns = {
                "group_id": np.repeat(np.arange(groups), 4),
                "grad_norm": (rng.random(rows) < share).astype(np.float64),
            }
            recorder.log_step(step, {k: v for k, v in columns.items() if k not in drop})
    return path


@pytest.mark.parametrize(
    ("shares", "outcome", "code"),
    [
        ([0.5] * 4, "pass", 0),
        ([0.1] * 4, "breach", 1),
        ([0.2] * 4, "insufficient", 3),
        ([0.5, 0.5, 0.5, 0.2], "pass", 0),
        ([0.5, 0.5, 0.1, 0.2], "insufficient", 3),
        ([0.1, 0.1, 0.1, 0.2], "breach", 1),
        ([0.2, 0.2, 0.2, 0.5], "pass", 0),
    ],
)
def test_the_interval_decides(tmp_path: Path, shares: list[float], outcome: str, code: int) -> None:
    decision = gate_runs([record(tmp_path / "run", shares)], policy())
    assert (decision.outcome, decision.exit_code) == (outcome, code)
    [run] = decision.runs
    assert bool(run.doubts) == (outcome == "insufficient")
    if outcome == "insufficient":
        assert run.why.startswith("not decided: thin: ess_contribution = 0.")
        assert "reaches both sides of 0.2" in run.why


@pytest.mark.parametrize(
    ("gate", "outcome"),
    [
        ("", "pass"),
        ("from_step = 0", "insufficient"),
        ("from_step = 4", "pass"),
        ("to_step = 3", "insufficient"),
        ("to_step = 5", "pass"),
        ('fail_on = "info"\nignore = ["thin"]', "pass"),
    ],
)
def test_only_doubts_at_the_steps_and_rules_of_the_gate_count(
    tmp_path: Path, gate: str, outcome: str
) -> None:
    shares = [0.5, 0.5, 0.2, 0.2, 0.5, 0.5]
    other = RULE.replace("thin", "other").replace("0.2", "0.01")
    decision = gate_runs([record(tmp_path / "run", shares)], policy(gate, RULE + other))
    assert decision.outcome == outcome


def test_without_groups_the_gate_says_what_is_missing(tmp_path: Path) -> None:
    path = record(tmp_path / "run", [0.5] * 4, group_id=True)
    [run] = gate_runs([path], policy()).runs
    assert run.outcome == "insufficient"
    assert "no interval: group_id is not logged" in run.why
    assert (
        gate_runs([path], policy(rule=RULE.replace("demand_interval = 0.9", ""))).outcome == "pass"
    )


def test_a_jackknife_of_few_groups_does_not_decide(tmp_path: Path) -> None:
    path = record(tmp_path / "run", [1.0] * 4, groups=8)
    with Recorder(tmp_path / "uneven", strict=True) as recorder:
        for step in range(4):
            norms = 1 + 0.1 * np.random.default_rng(step).random(32)
            recorder.log_step(step, {"group_id": np.arange(32) // 4, "grad_norm": norms})
    for run, why in ((path, "all rows are equal"), (tmp_path / "uneven", "8 groups of rows")):
        [decision] = gate_runs([run], policy()).runs
        assert decision.outcome == "insufficient"
        assert f"is unreliable: {why}" in decision.why


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A breach and a doubt in one run, and a doubt alone."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [record(folder / "both", [0.1] * 4), record(folder / "doubt", [0.2] * 4)]
    other = RULE.replace("thin", "wide").replace("below = 0.2", "below = 0.1")
    return gate_runs(runs, policy(rule=RULE + other))


def test_the_text_states_intervals_and_doubts_once(decided: Gate) -> None:
    both, doubt = render_text(decided).split("insufficient: doubt: ")
    assert both.startswith("breach: both: firing at critical or above: thin (since step 1)\n")
    assert f"  thin: ess_contribution = 0.0918 ({STATED} 0.07" in both
    assert "  not decided: wide: ess_contribution = 0." in both
    assert doubt.startswith("not decided: thin: ")
    assert doubt.count("not decided") == 1
    assert "gate: breach (exit code 1;" in doubt


def test_programs_get_intervals_and_doubts_by_the_schema(decided: Gate) -> None:
    content = json.loads(dump_json(gate_as_dict(decided)))
    Draft202012Validator(SCHEMA).validate(content)
    both, doubt = content["runs"]
    assert [found["rule"] for found in both["undecided"]] == ["wide"]
    assert both["breaching"][0]["interval"]["level"] == 0.9
    assert [found["rule"] for found in doubt["undecided"]] == ["thin"]
    assert doubt["undecided"][0]["interval"]["groups"] == 256
    schema = SCHEMA["$defs"]
    assert set(both["undecided"][0]) == set(schema["doubt"]["required"])
    assert set(both["breaching"][0]["interval"]) == set(schema["interval or null"]["required"])


def test_other_formats_state_them_too(decided: Gate) -> None:
    suites = ET.fromstring(render_junit(decided))
    cases = {
        f"{case.get('classname')} {case.get('name')}": case for case in suites.iter("testcase")
    }
    failure, skipped = cases["both thin"].find("failure"), cases["both wide"].find("skipped")
    assert failure is not None
    assert STATED in failure.get("message", "")
    assert skipped is not None
    assert skipped.get("message", "").startswith("not decided: wide")
    assert cases["doubt data"].find("error") is not None
    lines = render_github(decided).splitlines()
    assert any(
        line.startswith("::error title=both") and "90 %25 interval" in line for line in lines
    )
    assert any(line.startswith("::warning title=both%3A not decided::wide") for line in lines)
    assert any(line.startswith("::error title=doubt%3A insufficient") for line in lines)
    [run] = json.loads(render_sarif(decided))["runs"]
    assert STATED in run["results"][0]["message"]["text"]
    [notice] = run["invocations"][0]["toolExecutionNotifications"]
    assert "not decided: thin" in notice["message"]["text"]


def test_the_audit_shows_each_interval_demanded_and_how_often_it_helped(tmp_path: Path) -> None:
    path = record(tmp_path / "run", [0.5, 0.2, 0.1, 0.1])
    audit = audit_runs([Monitor(path, policy())])
    out = StringIO()
    print_audit(audit, Console(file=out, width=500))
    assert "Intervals demanded" in out.getvalue()
    [line] = [line for line in out.getvalue().splitlines() if "thin: ess_contribution has" in line]
    assert f"has the {STATED} 0." in line
    assert "256 groups at step 3; not decided at 1 of 4 steps" in line
    [rule] = audit_as_dict(audit)["runs"][0]["rules"]
    assert rule["state"] == "firing"
    counts = {name: rule["intervals"][name] for name in ("given", "missing", "undecided")}
    assert counts == {"given": 4, "missing": 0, "undecided": 1}
    assert rule["intervals"]["last"]["step"] == 3
    named = (DOCS / "audit-json.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in named for key in (*rule["intervals"], *rule["intervals"]["last"]))
    assert f"({STATED} 0." in render_html(audit).replace("\u00a0", " ")
    plain = audit_runs([Monitor(path, policy(rule=RULE.replace("demand_interval = 0.9", "")))])
    assert audit_as_dict(plain)["runs"][0]["rules"][0]["intervals"] is None


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance", "reading"),
    [
        (0.5, 0.5, 0.2, "holds"),
        (0.3, 0.5, 0.1, "worse"),
        (0.45, 0.5, 0.1, "insufficient"),
        (0.9, 0.5, 0.1, "holds"),
    ],
)
def test_against_a_baseline_the_interval_of_the_difference_decides(
    tmp_path: Path, ours: float, theirs: float, tolerance: float, reading: str
) -> None:
    run, baseline = (record(tmp_path / str(share), [share] * 3) for share in (ours, theirs + 1e-9))
    decision = gate_runs([run], policy(), Against(baseline, tolerance))
    [check] = decision.runs[0].checks
    assert check.reading == reading
    assert check.low is not None
    assert check.high is not None
    assert check.value is not None
    assert check.baseline is not None
    assert check.low < check.value - check.baseline < check.high
    assert f"{STATED} of the difference" in check.why


def test_against_a_baseline_without_intervals_nothing_is_decided(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [0.5] * 3)
    bare = record(tmp_path / "bare", [0.5] * 3, group_id=True)
    [check] = gate_runs([run], policy(), Against(bare)).runs[0].checks
    assert check.reading == "insufficient"
    assert "interval of the baseline: group_id is not logged" in check.why
