"""The health of a run in words, for its card at the head of the page."""

import time
from dataclasses import dataclass

from mmhealth.dashboards.watcher import Snapshot
from mmhealth.runlog import RunStatus

_MOST_LOSSES = 4


@dataclass(frozen=True, slots=True)
class CardText:
    """What a run's card says."""

    verdict: str
    tone: str
    """healthy, warning, critical, insufficient or waiting: the card's CSS class."""
    why: str
    step: str
    last_row: str
    rows: str
    losses: str
    """Sentences, one a line; empty when nothing is missing."""


def describe(snapshot: Snapshot, now: float | None = None) -> CardText:
    """The card of a run; ``now`` in seconds since 1970."""
    if snapshot.verdict is None or snapshot.status is None:
        word = "unreadable" if snapshot.state in ("unreadable", "stopped") else snapshot.state
        return CardText(word, "waiting", snapshot.message, "–", "no row yet", "–", "")
    status, verdict = snapshot.status, snapshot.verdict
    return CardText(
        verdict=verdict.name,
        tone=verdict.name,
        why=verdict.why,
        step="–" if verdict.step is None else f"{verdict.step:,}",
        last_row=_ago(status.last_commit, time.time() if now is None else now),
        rows=f"{status.rows_read:,} / {status.rows_present:,}" + _reduced(status),
        losses="\n".join(([snapshot.message] if snapshot.message else []) + _gaps(status)),
    )


def _ago(committed: float | None, now: float) -> str:
    if committed is None:
        return "no row yet"
    seconds = max(now - committed, 0)
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min ago"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h ago"
    return f"{seconds / 86400:.0f} days ago"


def _reduced(status: RunStatus) -> str:
    steps = status.steps_reduced
    return f", {steps:,} step{'' if steps == 1 else 's'} reduced" if steps else ""


def _gaps(status: RunStatus) -> list[str]:
    sentences = [f"Loss of data: {sentence}" for sentence in status.describe_losses()]
    if status.incomplete:
        steps = ", ".join(str(item.step) for item in status.incomplete[:5])
        more = "" if len(status.incomplete) <= 5 else ", …"
        sentences.append(f"Incomplete: step {steps}{more}")
    if status.rows_hidden:
        sentences.append(f"{status.rows_hidden:,} rows are hidden by a later attempt")
    if len(sentences) > _MOST_LOSSES:
        left = len(sentences) - _MOST_LOSSES
        return [*sentences[:_MOST_LOSSES], f"and {left} more: `mmhealth audit` lists them all"]
    return sentences
