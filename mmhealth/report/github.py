"""The gate as GitHub workflow commands and a job summary."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmhealth.health.alerts import SEVERITIES, Alert
from mmhealth.report.gate import Gate, Outcome, RunDecision

Kind = Literal["error", "warning", "notice"]
_KINDS: tuple[Kind, ...] = ("error", "warning", "notice")
_OUTCOMES: tuple[Outcome, ...] = ("breach", "unreadable", "insufficient", "pass")

MAX_ANNOTATIONS = 10
"""In all, whatever their kind: GitHub shows 10 errors and 10 warnings of a step and drops the rest
silently. Where there are more, the tenth says how many."""

SUMMARY_LIMIT = 1 << 20
"""Bytes of a step's summary; GitHub refuses a larger one as a whole."""

_CUT = "\n*Cut here: GitHub takes 1 MiB at most.*\n"


@dataclass(frozen=True, slots=True)
class _Annotation:
    kind: Kind
    title: str
    message: str
    gravity: int = -1
    """Of the alert, as in `SEVERITIES`; -1 for what only lacks data."""

    @property
    def rank(self) -> tuple[int, int]:
        return _KINDS.index(self.kind), -self.gravity


def render_github(gate: Gate) -> str:
    """Workflow commands, one a line: ``::error`` for what fails the gate, else ``::warning``.

    At most `MAX_ANNOTATIONS`, the worst of all runs first.
    """
    found = _worst_first(gate)
    shown = found if len(found) <= MAX_ANNOTATIONS else found[: MAX_ANNOTATIONS - 1]
    lines = [_command(item.kind, item.title, item.message) for item in shown]
    if left_out := found[len(shown) :]:
        more = f"{len(left_out)} more, see the job summary or log"
        lines.append(_command(left_out[0].kind, "mmhealth", more))
    return "".join(f"{line}\n" for line in lines)


def render_summary(gate: Gate) -> str:
    """Markdown for ``$GITHUB_STEP_SUMMARY``, the worst runs and alerts first."""
    lines = [f"## mmhealth gate: {gate.outcome}", "", "| run | gate | verdict | why |"]
    lines.append("|---|---|---|---|")
    for run in sorted(gate.runs, key=lambda run: _OUTCOMES.index(run.outcome)):
        verdict = run.audit.verdict.name if run.audit else ""
        cells = (run.label, run.outcome, verdict, run.why)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    for item in _worst_first(gate):
        lines += ["", f"- **{_cell(item.title)}**: {_cell(item.message)}"]
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
        lines = text[: max(room - len(_CUT), 0)].decode(errors="ignore").rpartition("\n")
        text = (f"{lines[0]}\n{_CUT}").encode()[: max(room, 0)]
    with path.open("ab") as file:
        file.write(text)
    return path


def _worst_first(gate: Gate) -> list[_Annotation]:
    found = [annotation for run in gate.runs for annotation in _annotations(run)]
    return sorted(found, key=lambda item: item.rank)


def _annotations(run: RunDecision) -> list[_Annotation]:
    if run.audit is None or run.outcome == "insufficient":
        return [_Annotation("error", f"{run.label}: {run.outcome} data", run.why)]
    breaching = {id(alert) for alert in run.breaching}
    found = [
        _of_alert(run, alert, breaches=id(alert) in breaching)
        for alert in run.audit.alerts
        if id(alert) in breaching or alert.state == "firing"
    ]
    title = f"{run.label}: not decided"
    found += [_Annotation("warning", title, doubt.message) for doubt in run.doubts]
    title, gravest = f"{run.label}: worse than the baseline", len(SEVERITIES) - 1
    return found + [_Annotation("error", title, check.why, gravest) for check in run.worse]


def _of_alert(run: RunDecision, alert: Alert, *, breaches: bool) -> _Annotation:
    kind: Kind = "notice" if alert.severity == "info" else "warning"
    parts = (alert.message, alert.meaning, f"Fix: {alert.fix}" if alert.fix else "")
    return _Annotation(
        "error" if breaches else kind,
        f"{run.label}: {alert.failure_mode or alert.rule}",
        " ".join(part for part in parts if part),
        SEVERITIES.index(alert.severity),
    )


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
