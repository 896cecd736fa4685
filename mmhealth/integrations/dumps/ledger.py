"""What an import has done so far: ``import.jsonl`` in the run directory, one line a part.

The ledger is written after the step it speaks of is committed. A step that was committed and is not
in the ledger (the import was killed between the two) is imported again, as a new attempt that hides
the first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mmhealth.errors import ImportBusyError
from mmhealth.integrations.dumps.parts import Imported
from mmhealth.runlog.sidefile import SideFile, first_note, open_side_file

NAME = "import.jsonl"
_VERSION = 1


class Ledger:
    """Open, locked, and read: use as ``with Ledger.open(...)``."""

    def __init__(self, file: SideFile, head: dict[str, Any]) -> None:
        self._file = file
        self.run_dir = file.path.parent
        notes = file.read()
        self.head = notes[0] if notes else head | {"version": _VERSION}
        if not notes:
            file.append(self.head)
        self.entries = [Imported(note["step"], note["stamp"], note["rows"]) for note in notes[1:]]

    @classmethod
    @contextmanager
    def open(cls, run_dir: Path, head: dict[str, Any]) -> Iterator[Self]:
        """The ledger of a run directory, which is begun with ``head`` where there is none.

        Raises ImportBusyError when another process imports into the run directory.
        """
        with open_side_file(run_dir / NAME) as file:
            if file is None:
                raise ImportBusyError(
                    f"{run_dir}: another process is importing into it; wait for it, or choose "
                    "another --out"
                )
            yield cls(file, head)

    def add(self, entry: Imported) -> None:
        """Note that a part is committed."""
        self._file.append({"step": entry.step, "stamp": entry.stamp, "rows": entry.rows})
        self.entries.append(entry)


def read_head(run_dir: Path) -> dict[str, Any] | None:
    """What the ledger of a run directory says of its dump; None where there is no ledger."""
    return first_note(run_dir / NAME)
