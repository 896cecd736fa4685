"""The gate as GitHub workflow commands and a job summary."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mmhealth.report.gate import Gate, RunDecision

Kind = Literal["error", "warning", "notice"]

MAX_ANNOTATIONS = 9
"""GitHub shows 10 of a kind and drops the rest silently: the tenth says how many more there are."""

SUMMARY_LIMIT = 1 << 20
"""Bytes of a step's summary; GitHub refuses a larger one as a whole."""

_CUT = "\n\n*Cut here: GitHub takes 1 MiB at most.*\n"


def render_github(gate: Gate) -> str:
    """Workflow commands, one a line: ``::error`` for what fails the gate, else ``::warning``."""
    found: dict[Kind, list[tuple[str, str]]] = {"error": [], "warning": [], "notice": []}
    for run in gate.runs:
        for kind, title, message in _annotations(run):
            found[kind].append((title, message))
    lines = []
    for kind, items in found.items():
        lines += [_command(kind, title, message) for title, message in items[:MAX_ANNOTATIONS]]
        if (more := len(items) - MAX_ANNOTATIONS) > 0:
            lines.append(_command(kind, "mmhealth", f"{more} more, see the job summary or log"))
    return "".join(f"{line}\n" for line in lines)


def render_summary(gate: Gate) -> str:
    """Markdown for ``$GITHUB_STEP_SUMMARY``."""
    lines = [f"## mmhealth gate: {gate.outcome}", "", "| run | gate | verdict | why |"]
    lines.append("|---|---|---|---|")
    for run in gate.runs:
        verdict = run.audit.verdict.name if run.audit else ""
        cells = (run.label, run.outcome, verdict, run.why)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    for run in gate.runs:
        for _, title, message in _annotations(run):
            lines += ["", f"- **{_cell(title)}**: {_cell(message)}"]
    return "\n".join(lines) + "\n"


def append_summary(gate: Gate, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Append the summary where ``$GITHUB_STEP_SUMMARY`` says, within GitHub's limit.

    Returns the file, or None where the variable is not set. Raises OSError.
    """
    name = environment.get("GITHUB_STEP_SUMMARY")
    if not name:
        return None
    path = Path(name)
    room = SUMMARY_LIMIT - 1 - (path.stat().st_size if path.exists() else 0)
    text = render_summary(gate).encode()
    if len(text) > room:
        kept = text[: max(room - len(_CUT), 0)].decode(errors="ignore")
        text = (kept + _CUT).encode()[: max(room, 0)]
    with path.open("ab") as file:
        file.write(text)
    return path


def _annotations(run: RunDecision) -> list[tuple[Kind, str, str]]:
    if run.audit is None or run.outcome == "insufficient":
        return [("error", f"{run.label}: {run.outcome} data", run.why)]
    breaching = {id(alert) for alert in run.breaching}
    found: list[tuple[Kind, str, str]] = []
    for alert in run.audit.alerts:
        kind: Kind = "notice" if alert.severity == "info" else "warning"
        if id(alert) in breaching:
            kind = "error"
        elif alert.state != "firing":
            continue
        parts = (alert.message, alert.meaning, f"Fix: {alert.fix}" if alert.fix else "")
        message = " ".join(part for part in parts if part)
        found.append((kind, f"{run.label}: {alert.failure_mode or alert.rule}", message))
    return found


def _command(kind: Kind, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell or list item, nor become markup."""
    for char in ("\\", "|", "*", "_", "`", "<", ">", "[", "]"):
        text = text.replace(char, f"\\{char}" if char not in "<>" else f"&#{ord(char)};")
    return " ".join(text.split())
