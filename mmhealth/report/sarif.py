"""The gate as SARIF 2.1.0, which code scanning and its viewers read; docs/gate.md."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mmhealth._version import __version__
from mmhealth.health import Rule
from mmhealth.health.alerts import Severity
from mmhealth.place import RunPlace, RunUrl
from mmhealth.report.gate import Gate, RunDecision

Level = Literal["error", "warning", "note"]

SCHEMA_URI = "https://json.schemastore.org/sarif-2.1.0.json"
BASELINE_RULE = "mmhealth/baseline"
"""Rule of the results that say in what a run is worse than the baseline run."""

_LEVELS: dict[Severity, Level] = {"info": "note", "warning": "warning", "critical": "warning"}
"""Of an alert that does not fail the gate; one that does is an ``error``."""


def render_sarif(gate: Gate, base: Path | None = None) -> str:
    """One SARIF run: a rule for each rule of the policy, a result for each alert that fires.

    A result lies at the ``run.json`` of its run, relative to ``base`` (the working directory where
    None): no path of this machine is told. Runs without usable data have no result; they are
    notifications of the invocation.
    """
    rules = [_rule(gate, rule) for rule in gate.policy.rules]
    if gate.against is not None:
        rules.append(_baseline_rule())
    given = [run.path for run in gate.runs] + ([gate.against.path] if gate.against else [])
    places = {path: _place(path, base or Path.cwd()) for path in given}
    driver = {"name": "mmhealth", "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(gate, places)],
        "results": _numbered(
            [result for run in gate.runs for result in _results(run, places[run.path])],
            [rule["id"] for rule in rules],
        ),
    }
    log = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _rule(gate: Gate, rule: Rule) -> dict[str, Any]:
    fails = gate.policy.can_fail(rule.name, rule.severity)
    meaning = rule.meaning or f"{rule.metric} is beyond its threshold."
    described: dict[str, Any] = {
        "id": rule.name,
        "shortDescription": {"text": rule.failure_mode or f"{rule.name}: {rule.metric}"},
        "fullDescription": {"text": meaning},
        "defaultConfiguration": {"level": "error" if fails else _LEVELS[rule.severity]},
        "properties": {"metric": rule.metric, "severity": rule.severity},
    }
    if rule.fix:
        described["help"] = {"text": rule.fix}
    return described


def _baseline_rule() -> dict[str, Any]:
    return {
        "id": BASELINE_RULE,
        "shortDescription": {"text": "worse than the baseline"},
        "fullDescription": {"text": "The run is worse than the baseline run beyond the tolerance."},
        "defaultConfiguration": {"level": "error"},
    }


def _results(run: RunDecision, place: RunPlace) -> list[dict[str, Any]]:
    if run.audit is None:
        return []
    name = run.audit.run.id
    breaching = {id(alert) for alert in run.breaching}
    results = []
    for alert in run.audit.standing:
        if id(alert) in breaching or alert.state == "firing":
            level = "error" if id(alert) in breaching else _LEVELS[alert.severity]
            text = " ".join(filter(None, (alert.message, alert.meaning)))
            prints = _fingerprints(place, alert.rule, (name, *alert.key))
            results.append(_result(alert.rule, level, text, place, prints))
    for check in run.worse:
        text = f"worse than the baseline: {check.why}."
        subject = f"{BASELINE_RULE} {check.name}"
        prints = _fingerprints(place, subject, (name, subject))
        results.append(_result(BASELINE_RULE, "error", text, place, prints))
    return results


def _result(
    rule: str, level: Level, text: str, place: RunPlace, prints: dict[str, str]
) -> dict[str, Any]:
    if isinstance(place, RunUrl):
        artifact = {"uri": quote((place / "run.json").as_posix(), safe=":/")}
    else:
        artifact = {"uri": quote((place / "run.json").as_posix()), "uriBaseId": "%SRCROOT%"}
    location = {"artifactLocation": artifact, "region": {"startLine": 1}}
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": prints,
    }


def _fingerprints(place: RunPlace, subject: str, alert: tuple[object, ...]) -> dict[str, str]:
    """Of this very alert wherever the run lies, and of its like here in whatever run."""
    return {
        "mmhealthAlert/v1": _digest(*alert),
        "primaryLocationLineHash": _digest(place.as_posix(), subject),
    }


def _numbered(results: list[dict[str, Any]], rules: list[str]) -> list[dict[str, Any]]:
    """The results with the index of their rule, and those of one rule in one run told apart."""
    times: Counter[str] = Counter()
    for result in results:
        result["ruleIndex"] = rules.index(result["ruleId"])
        fingerprints = result["partialFingerprints"]
        line = fingerprints["primaryLocationLineHash"]
        times[line] += 1
        fingerprints["primaryLocationLineHash"] = f"{line}:{times[line]}"
    return results


def _invocation(gate: Gate, places: dict[RunPlace, RunPlace]) -> dict[str, Any]:
    lacking = [run for run in gate.runs if run.outcome in ("insufficient", "unreadable")]
    return {
        "executionSuccessful": not lacking,
        "exitCode": gate.exit_code,
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": _lack(run, places)}} for run in lacking
        ],
    }


def _lack(run: RunDecision, places: dict[RunPlace, RunPlace]) -> str:
    why = run.why
    for path, place in places.items():
        if isinstance(path, RunUrl) or path.is_absolute():
            why = why.replace(str(path), place.as_posix())
    return f"{places[run.path].as_posix()}: {run.outcome}: {why}"


def _place(run: RunPlace, base: Path) -> RunPlace:
    """The run's path relative to the base; its name alone when it lies outside; a URL as it is."""
    if isinstance(run, RunUrl):
        return run
    for absolute in (Path(os.path.normpath(base / run)), (base / run).resolve()):
        for root in (base, base.resolve()):
            if absolute.is_relative_to(root):
                return absolute.relative_to(root)
    return Path((base / run).resolve().name)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
