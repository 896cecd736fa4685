import re
from dataclasses import fields
from pathlib import Path

from mmhealth.health import Rule
from mmhealth.health.policy import parse_policy

DOC = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")


def test_every_key_is_documented() -> None:
    named = set(re.findall(r"`([a-z0-9_.]+)`", DOC))
    assert {field.name for field in fields(Rule)} - {"name"} <= named
    assert {"version", "gate.fail_on"} <= named


def test_the_example_is_a_valid_policy() -> None:
    lines = [line[4:] for line in DOC.splitlines() if line.startswith("    ")]
    assert parse_policy("\n".join(lines), "the doc").rules[0].name == "ess_signal"
