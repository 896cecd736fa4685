"""What is sent: one sentence for people, and the same as JSON for programs."""

import json
import math
from dataclasses import dataclass
from typing import Any

from mmhealth.health import Alert

MESSAGE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell."""

    text: str
    content: dict[str, Any]
    """The same for programs; see docs/guard.md."""

    def as_json(self) -> bytes:
        """The content as one line of JSON in ASCII: a path need not be valid UTF-8."""
        return json.dumps(self.content, allow_nan=False).encode()


def alert_message(alert: Alert, run: str) -> Message:
    """Tell that an alert of a run fires, has resolved or is superseded."""
    parts = [f"[mmhealth] {run + ': ' if run else ''}{alert.severity} {alert.state}:"]
    parts.append(alert.message)
    if alert.state == "firing":
        parts += [alert.meaning] if alert.meaning else []
        parts += [f"Fix: {alert.fix}"] if alert.fix else []
    fields = {name: _finite(value) for name, value in alert.as_dict().items()}
    return _message("alert", " ".join(parts), run, fields)


def sample_message() -> Message:
    """Tell that this is a test."""
    return _message("test", "[mmhealth] This is a test: alerts of your runs will arrive here.", "")


def _message(kind: str, text: str, run: str, alert: dict[str, Any] | None = None) -> Message:
    content = {"version": MESSAGE_VERSION, "kind": kind, "run": run, "text": text, "alert": alert}
    return Message(text, content)


def _finite(value: Any) -> Any:
    """None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
