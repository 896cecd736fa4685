"""What an import could not read: named by file and line, and counted; the rest is kept."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_KEPT = 100


class BadRecordError(Exception):
    """A record that cannot become a row; caught where file and line are known."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that was left out."""

    path: Path
    line: int | None
    """Line in the file, from 1; None where the whole file is meant."""
    why: str

    def __str__(self) -> str:
        place = f"{self.path}" if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.why}"


@dataclass(slots=True)
class Problems:
    """Records left out, and what is unknown in those that were kept."""

    count: int = 0
    """Records (or whole files) left out."""
    first: list[Problem] = field(default_factory=list)
    """The first of them."""
    notices: Counter[str] = field(default_factory=Counter)
    """What the dump does not say, and in how many rows."""

    def add(self, path: Path, line: int | None, why: str) -> None:
        """Count a record that is left out."""
        self.count += 1
        if len(self.first) < _KEPT:
            self.first.append(Problem(path, line, why))

    def note(self, what: str, rows: int = 1) -> None:
        """Count rows of which the dump does not say something."""
        self.notices[what] += rows

    def absorb(self, other: "Problems") -> None:
        """Add another's counts to these."""
        self.count += other.count
        self.first += other.first[: max(0, _KEPT - len(self.first))]
        self.notices += other.notices

    def clear(self) -> None:
        """Begin anew."""
        self.count, self.first, self.notices = 0, [], Counter()
