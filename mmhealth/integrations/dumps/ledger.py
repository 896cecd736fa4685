"""What an import has done so far: a file of its own in the run directory, one line a part.

The ledger is written after the step it speaks of is committed. A step that was committed and is not
in the ledger (the import was killed between the two) is imported again, as a new attempt that hides
the first.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mmhealth.errors import ImportBusyError
from mmhealth.integrations.dumps.parts import Imported
from mmhealth.runlog.lock import try_lock

NAME = "import.jsonl"
_VERSION = 1


class Ledger:
    """Open, locked, and read: use as ``with Ledger.open(...)``."""

    def __init__(self, path: Path, descriptor: int, head: dict[str, Any]) -> None:
        self.path = path
        self.head = head
        self.entries: list[Imported] = []
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def open(cls, run_dir: Path, head: dict[str, Any]) -> Iterator[Self]:
        """The ledger of a run directory, which is begun with ``head`` where there is none.

        Raises ImportBusyError when another process imports into the run directory.
        """
        path = run_dir / NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if try_lock(descriptor) is False:
                raise ImportBusyError(
                    f"{run_dir}: another process is importing into it; wait for it, or choose "
                    "another --out"
                )
            ledger = cls(path, descriptor, head)
            ledger._read()
            yield ledger
        finally:
            os.close(descriptor)

    def add(self, entry: Imported) -> None:
        """Note that a part is committed."""
        self._write({"step": entry.step, "stamp": entry.stamp, "rows": entry.rows})
        self.entries.append(entry)

    def _read(self) -> None:
        content = self.path.read_bytes()
        texts, whole = content.splitlines(keepends=True), 0
        for number, text in enumerate(texts):
            try:
                line = json.loads(text) if text.endswith(b"\n") else None
            except ValueError:
                line = None
            if line is None:
                break
            whole += len(text)
            if number == 0:
                self.head = line
            else:
                self.entries.append(Imported(line["step"], line["stamp"], line["rows"]))
        if whole < len(content):
            os.ftruncate(self._descriptor, whole)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        if not whole:
            self._write(self.head | {"version": _VERSION})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def read_head(run_dir: Path) -> dict[str, Any] | None:
    """What the ledger of a run directory says of its dump; None where there is no ledger."""
    try:
        with (run_dir / NAME).open("rb") as file:
            head = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) else None
