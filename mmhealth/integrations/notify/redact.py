"""Keeps secrets out of everything that is printed or logged."""

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

HIDDEN = "***"
_SHORTEST = 4
"""Shorter texts are not looked for: they would be found in every other word."""
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>]+")
_WORD = re.compile(r"[a-z]+([._-][a-z]+)*|v\d{1,2}")
_LONGEST_WORD = 15


class Redactor:
    """Replaces secrets by ``***``: those given, and whatever in a URL may be one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        both = {form for secret in secrets for form in (secret, unquote(secret))}
        self._secrets = sorted((s for s in both if len(s) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _URL.sub(lambda match: safe_url(match[0]), text)

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"


def safe_url(url: str) -> str:
    """A URL as it may be shown: host, and of the path what are plain words."""
    try:
        parts = urlsplit(url)
        place = _host(parts)
    except ValueError:
        return HIDDEN
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    path = "/".join(HIDDEN if _is_secret(name) else name for name in parts.path.split("/"))
    query = f"?{HIDDEN}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{place}{path}{query}"


def secrets_of_url(url: str) -> set[str]:
    """Everything in a URL that `safe_url` does not show."""
    parts = urlsplit(url)
    found = {name for name in parts.path.split("/") if _is_secret(name)}
    found |= {parts.query, parts.fragment, *re.split("[&=]", parts.query)}
    found |= {parts.netloc.rpartition("@")[0], parts.username or "", parts.password or ""}
    return found


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def _is_secret(name: str) -> bool:
    """Whether a part of a path may be a token: it is long, or no plain word."""
    return bool(name) and (len(name) > _LONGEST_WORD or not _WORD.fullmatch(name))
