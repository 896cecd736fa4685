"""A diagnosis as JSON and on a terminal."""

import math
from typing import Any

from rich.console import Console
from rich.text import Text

from mmhealth._version import __version__
from mmhealth.health.diagnosis import Diagnosis, Finding
from mmhealth.report.indent import indent
from mmhealth.runlog import Run

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""


def diagnosis_as_dict(found: Diagnosis, run: Run) -> dict[str, Any]:
    """A diagnosis as plain data; `mmhealth.cli.diagnose_command` lists the keys."""
    return {
        "schema": SCHEMA,
        "mmhealth": __version__,
        "run": {"id": run.id, "name": run.name, "path": str(run.path)},
    } | findings_as_dict(found)


def findings_as_dict(found: Diagnosis) -> dict[str, Any]:
    """The same without the run: a part of the audit as JSON."""
    return {
        "outcome": found.outcome,
        "why": found.why,
        "findings": [_finding(item) for item in found.findings],
        "borderline": [_finding(item) for item in found.borderline],
        "ruled_out": list(found.ruled_out),
        "insufficient": dict(found.insufficient),
    }


def print_diagnosis(found: Diagnosis, run: Run, console: Console) -> None:
    """Print a diagnosis; plain text where the console is not a terminal."""
    console.print(Text.assemble((run.name, "bold"), f"  {found.outcome}"))
    if not found.findings:
        console.print(indent(found.why))
    elif found.outcome == "undetermined":
        console.print(indent(f"undetermined: {found.why}"))
    for number, item in enumerate(found.findings, 1):
        console.print()
        _print_finding(item, f"{number}. ", console)
    if found.borderline:
        console.print(Text("\nNot beyond its threshold, but near", style="bold"))
        for item in found.borderline:
            console.print(indent(f"{item.mode} ({item.strength:.2f} of it): {item.evidence[0]}"))
    if found.insufficient:
        console.print(Text("\nInsufficient data", style="bold"))
        for name, why in found.insufficient.items():
            console.print(indent(f"{name}: {why}"))
    if found.ruled_out:
        console.print()
        console.print(indent(Text(f"No sign of {', '.join(found.ruled_out)}.", style="dim")))


def _print_finding(item: Finding, number: str, console: Console) -> None:
    since = "" if item.since is None else f", since step {item.since}"
    tried = ", experimental" if item.experimental else ""
    console.print(
        Text.assemble(
            number, (item.mode, "bold"), f"  confidence {item.confidence:.0%}{since}{tried}"
        )
    )
    console.print(indent(item.about, 3))
    if item.follows_from is not None:
        console.print(indent(f"It may follow from {item.follows_from}.", 3))
    for sentence in item.evidence:
        console.print(indent(f"evidence: {sentence}", 3))
    for rival, verdict in item.rivals.items():
        console.print(indent(f"not {rival}? {verdict}", 3))
    console.print(indent(f"What to do: {item.todo}", 3))
    console.print(indent(item.import_line, 5))


def _finding(item: Finding) -> dict[str, Any]:
    return {
        "mode": item.mode,
        "about": item.about,
        "confidence": item.confidence,
        "strength": item.strength if math.isfinite(item.strength) else None,
        "since": item.since,
        "evidence": list(item.evidence),
        "rivals": dict(item.rivals),
        "follows_from": item.follows_from,
        "todo": item.todo,
        "import": item.import_line,
        "experimental": item.experimental,
    }
