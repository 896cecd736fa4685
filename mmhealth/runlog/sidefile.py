"""Notes that other floors keep in or beside a run directory: JSON, with one process that writes.

Readers of a run pass over them. Every write is one call of the system, so that a process that is
killed leaves a note whole, or the last line of several cut off; such a line is dropped.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmhealth.runlog.lock import try_lock

Note = Mapping[str, Any]


class SideFile:
    """An open file of notes, held under a lock that ends with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> list[dict[str, Any]]:
        """All notes, in order; whatever follows the first that is no note is cut away."""
        notes, whole = [], 0
        for text in self.path.read_bytes().splitlines(keepends=True):
            note = _parsed(text) if text.endswith(b"\n") else None
            if note is None:
                os.ftruncate(self._descriptor, whole)
                break
            notes.append(note)
            whole += len(text)
        return notes

    def append(self, note: Note) -> None:
        """Add a note at the end."""
        os.lseek(self._descriptor, 0, os.SEEK_END)
        os.write(self._descriptor, _line(note))

    def replace(self, note: Note) -> None:
        """Have this one note and no other."""
        text = _line(note)
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


@contextmanager
def open_side_file(path: Path, mode: int = 0o644) -> Iterator[SideFile | None]:
    """The file, made where missing with ``mode``; None when another process holds it.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        yield None if try_lock(descriptor) is False else SideFile(path, descriptor)
    finally:
        os.close(descriptor)


def first_note(path: Path) -> dict[str, Any] | None:
    """The first note of a file, whoever holds it; None where there is none."""
    try:
        with path.open("rb") as file:
            return _parsed(file.readline())
    except OSError:
        return None


def _line(note: Note) -> bytes:
    return json.dumps(note).encode() + b"\n"


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        note = json.loads(text)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None
