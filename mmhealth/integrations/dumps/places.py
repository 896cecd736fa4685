"""Where in a folder a dump may lie, and files that carry a step in their name."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmhealth.errors import ImportDataError

_MOST = 500


def folders(path: Path, depth: int = 2) -> list[Path]:
    """A folder and those below it, to a depth, in order and no more than some hundred.

    Folders that this user may not look into are passed over.
    """
    if not path.is_dir():
        return []
    found, level = [path], [path]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in sorted(parent.iterdir())
            if not child.name.startswith(".") and child.is_dir() and _open(child)
        ][:_MOST]
        found += level
    return found[:_MOST]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises ImportDataError for what below a path is gone, or is not this user's to read."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise ImportDataError(f"{place} cannot be read: {error.strerror or error}") from error


def _open(folder: Path) -> bool:
    return os.access(
        folder, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    )


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """Entries whose whole name matches, by the number that the first group gives, in order."""
    compiled = re.compile(pattern)
    matches = ((compiled.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in matches if match)


def where_numbered(
    pattern: str, holds: Callable[[Path], bool], *, depth: int = 2
) -> Callable[[Path], list[Path]]:
    """A finder of folders that have numbered entries of which the first one fits."""

    def find(path: Path) -> list[Path]:
        found = []
        for folder in folders(path, depth):
            entries = numbered(folder, pattern)
            if entries and any(holds(entry) for _, entry in entries[:3]):
                found.append(folder)
        return found

    return find


def with_files(
    entries: Iterable[tuple[int, Path]], pattern: str
) -> list[tuple[int, tuple[Path, ...]]]:
    """Numbered folders with those of their files that match, where there are any."""
    compiled = re.compile(pattern)
    both = (
        (number, tuple(p for p in sorted(folder.iterdir()) if compiled.fullmatch(p.name)))
        for number, folder in entries
        if folder.is_dir()
    )
    return [(number, files) for number, files in both if files]
