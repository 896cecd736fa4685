"""What checking a policy needs: mistakes that name the line they stand on."""

import re
from typing import Any

from mmhealth.errors import PolicyError


class Locator:
    """Finds the line on which a key stands."""

    def __init__(self, text: str, source: str) -> None:
        self._lines = text.splitlines()
        self._source = source

    def error(self, table: tuple[str, ...], key: str | None, why: str) -> PolicyError:
        """The error about a key of a table, ready to be raised."""
        line = self._line(table, key)
        where = f"{self._source}, line {line}" if line else self._source
        return PolicyError(f"{where}: {why}")

    def _line(self, table: tuple[str, ...], key: str | None) -> int | None:
        current: tuple[str, ...] = ()
        header_line = None
        for number, line in enumerate(self._lines, 1):
            if match := re.match(r"\s*\[\[?([^\]]+)\]", line):
                current = tuple(part.strip().strip("\"'") for part in match[1].split("."))
                if current == table or (key and current == (*table, key)):
                    header_line = number
            elif (
                key and current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line)
            ):
                return number
        return header_line


def check_keys(
    table: dict[str, Any], known: tuple[str, ...], where: tuple[str, ...], at: Locator
) -> None:
    """Raises PolicyError for a key that is not known."""
    for key in table:
        if key not in known:
            raise at.error(where, key, f"unknown key {key!r}; known: {', '.join(known)}")


def expect(condition: Any, at: Locator, table: tuple[str, ...], key: str, why: str) -> None:
    """Raises PolicyError unless the condition holds."""
    if not condition:
        raise at.error(table, key, why)
