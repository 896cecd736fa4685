"""The places that messages can go to; each delivers one message once, or says why it did not."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mmhealth.health.alerts import Severity
from mmhealth.integrations.notify.http import UndeliveredError, post_json
from mmhealth.integrations.notify.message import Message
from mmhealth.integrations.notify.redact import Redactor, safe_url


class Target(Protocol):
    """A place that messages go to."""

    @property
    def options(self) -> "Options":
        """What all targets have."""

    def deliver(self, message: Message) -> None:
        """Deliver one message; raises UndeliveredError."""

    def describe(self) -> str:
        """What it is, without secrets."""


@dataclass(frozen=True, slots=True)
class Options:
    """What all targets have."""

    name: str
    severity: Severity = "warning"
    """Alerts below are not told."""
    timeout: float = 10.0
    """Seconds that one attempt may wait for the receiver."""
    give_up_after: float = 300.0
    """Seconds after which a message is not tried again."""
    redact: Redactor = field(default_factory=Redactor)


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs `Message.content` as JSON."""

    options: Options
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def deliver(self, message: Message) -> None:
        """POST; answers 2xx count as delivered."""
        post_json(self.url, message.as_json(), self.headers, self.options.timeout)

    def describe(self) -> str:
        """Where it POSTs to."""
        return f"webhook {safe_url(self.url)}"


@dataclass(frozen=True, slots=True)
class Slack:
    """POSTs ``{"text": ...}`` as Slack's incoming webhooks, and many others, understand it."""

    options: Options
    url: str = field(repr=False)

    def deliver(self, message: Message) -> None:
        """POST; Slack's three control characters are escaped."""
        text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        post_json(self.url, json.dumps({"text": text}).encode(), {}, self.options.timeout)

    def describe(self) -> str:
        """Where it POSTs to."""
        return f"slack {safe_url(self.url)}"


@dataclass(frozen=True, slots=True)
class Command:
    """Runs a command, without a shell, with `Message.content` as JSON on its standard input."""

    options: Options
    command: Sequence[str] = field(repr=False)

    def deliver(self, message: Message) -> None:
        """Run it to its end; exit code 0 counts as delivered. After the timeout it is killed."""
        with tempfile.TemporaryFile() as errors:
            try:
                child = subprocess.Popen(
                    list(self.command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise UndeliveredError(f"cannot be run: {error.strerror or error}") from None
            try:
                child.communicate(message.as_json() + b"\n", self.options.timeout)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                raise UndeliveredError(f"killed after {self.options.timeout:g} s") from None
            if child.returncode:
                errors.seek(0)
                last = errors.read(10_000).decode(errors="replace").strip().splitlines()[-1:]
                raise UndeliveredError(": ".join((f"exit code {child.returncode}", *last)))

    def describe(self) -> str:
        """Which command it runs."""
        return f"command {Path(self.command[0]).name}"


@dataclass(frozen=True, slots=True)
class File:
    """Appends `Message.content` to a file, one line of JSON each."""

    options: Options
    path: Path

    def deliver(self, message: Message) -> None:
        """Append a line in one write, so that lines of several processes do not mix."""
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(message.as_json() + b"\n")
        except OSError as error:
            raise UndeliveredError(f"cannot be written: {error.strerror or error}") from None

    def describe(self) -> str:
        """Which file it appends to."""
        return f"file {self.path}"
