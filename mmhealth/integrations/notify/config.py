"""Notification targets from a TOML file, checked so that every mistake names its place."""

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmhealth.errors import NotifyError
from mmhealth.health.alerts import SEVERITIES
from mmhealth.integrations.notify.redact import Redactor, secrets_of_url
from mmhealth.integrations.notify.targets import Command, File, Options, Slack, Target, Webhook

CONFIG_VERSION = 1
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_COMMON = ("kind", "severity", "timeout", "give_up_after")
_OWN = {
    "webhook": ("url", "headers"),
    "slack": ("url",),
    "command": ("command",),
    "file": ("path",),
}


def load_targets(path: Path | str) -> tuple[Target, ...]:
    """Read a configuration; see docs/guard.md. Raises NotifyError naming file, target and key.

    ``${NAME}`` in a text stands for the environment variable, whose value is treated as a secret.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotifyError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise NotifyError(f"{path}: not valid TOML: {error}") from error
    if unknown := set(content) - {"version", "targets"}:
        raise NotifyError(f"{path}: unknown key {min(unknown)!r}; known: version, targets")
    if content.get("version") != CONFIG_VERSION:
        raise NotifyError(f"{path}: version = {CONFIG_VERSION} is needed")
    tables = content.get("targets")
    if not isinstance(tables, dict) or not tables:
        raise NotifyError(f"{path}: no [targets.NAME] table")
    return tuple(_Table(str(path), name, table).target() for name, table in tables.items())


class _Table:
    """One table ``[targets.NAME]``, being read."""

    def __init__(self, source: str, name: str, content: Any) -> None:
        self._where = f"{source}: [targets.{name}]"
        self._name = name
        if not isinstance(content, dict):
            raise NotifyError(f"{self._where} must be a table")
        self._secrets: set[str] = set()
        self._content = {key: self._expand(value) for key, value in content.items()}

    def target(self) -> Target:
        """The target that the table describes."""
        kind = self._text("kind")
        if kind not in _OWN:
            raise self._error("kind", f"must be one of {', '.join(_OWN)}")
        known = (*_COMMON, *_OWN[kind])
        for key in self._content:
            if key not in known:
                raise self._error(key, f"is not known for a {kind}; known: {', '.join(known)}")
        make: dict[str, Callable[[], Target]] = {
            "webhook": lambda: Webhook(url=self._url(), headers=self._headers(), **self._options()),
            "slack": lambda: Slack(url=self._url(), **self._options()),
            "command": lambda: Command(command=self._command(), **self._options()),
            "file": lambda: File(path=Path(self._text("path")), **self._options()),
        }
        return make[kind]()

    def _options(self) -> dict[str, Options]:
        """What all targets have; read last, when all secrets are known."""
        severity = self._content.get("severity", "warning")
        if severity not in SEVERITIES:
            raise self._error("severity", f"must be one of {', '.join(SEVERITIES)}")
        options = Options(
            self._name,
            severity=severity,
            timeout=self._seconds("timeout", 10.0),
            give_up_after=self._seconds("give_up_after", 300.0),
            redact=Redactor(self._secrets),
        )
        return {"options": options}

    def _url(self) -> str:
        url = self._text("url")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or re.search(r"[\s\x00-\x1f\x7f]", url):
            raise self._error("url", "must be an address http://... or https://... without spaces")
        self._secrets |= secrets_of_url(url)
        return url

    def _headers(self) -> dict[str, str]:
        headers = self._content.get("headers", {})
        if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
            raise self._error("headers", 'must be a table of texts, as { Authorization = "..." }')
        for name, value in headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not _is_latin_line(value):
                raise self._error("headers", f"{name!r} is no valid header")
            self._secrets |= {value, *value.split()}
        return dict(headers)

    def _command(self) -> list[str]:
        command = self._content.get("command")
        if (
            not isinstance(command, list)
            or not command
            or not all(isinstance(word, str) and word for word in command)
        ):
            raise self._error("command", 'must be a list of texts, as ["send-page", "--now"]')
        return command

    def _text(self, key: str) -> str:
        value = self._content.get(key)
        if not isinstance(value, str) or not value:
            raise self._error(key, "is needed, a text")
        return value

    def _seconds(self, key: str, default: float) -> float:
        value = self._content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise self._error(key, "must be a number of seconds above 0")
        return float(value)

    def _expand(self, value: Any) -> Any:
        """The value with environment variables filled in, wherever there are texts."""
        if isinstance(value, str):
            return _VARIABLE.sub(self._variable, value)
        if isinstance(value, list):
            return [self._expand(item) for item in value]
        if isinstance(value, dict):
            return {key: self._expand(item) for key, item in value.items()}
        return value

    def _variable(self, match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if not value:
            raise NotifyError(
                f"{self._where}: the environment variable {match[1]} is not set or empty"
            )
        self._secrets.add(value)
        return value

    def _error(self, key: str, why: str) -> NotifyError:
        return NotifyError(f"{self._where}: {key} {why}")


def _is_latin_line(text: str) -> bool:
    """Whether a header can have this value."""
    return text.isprintable() and all(ord(character) < 256 for character in text)
