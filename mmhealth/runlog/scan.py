"""Finds what is new in a run directory: reads each file on its own and names what is damaged."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from mmhealth.runlog.layout import (
    OpenTail,
    Sealed,
    Writer,
    is_segment_like,
    list_folder,
    parse_segment,
)
from mmhealth.runlog.pieces import DamagedSegmentError, Piece, find_batches
from mmhealth.runlog.seal import is_being_written
from mmhealth.runlog.tail import TailPosition, read_tail

Place: TypeAlias = pa.Table | Piece
"""Where the rows of a batch are: read from a tail, or in a sealed segment."""


@dataclass(frozen=True, slots=True)
class Key:
    """Names one batch of one table."""

    writer: Writer
    seq: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file, or part of one, that cannot be read."""

    file: str
    """Path relative to the run directory."""
    reason: str


@dataclass(slots=True)
class TableScan:
    """What has been seen of one table."""

    folder: Path
    keys: set[Key] = field(default_factory=set)
    quarantined: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)
    """Bytes of a batch being written, by tail."""
    unfetched: dict[str, str] = field(default_factory=dict)
    """Objects that a store does not give just now, with the reason."""
    _files: set[str] = field(default_factory=set)
    _positions: dict[str, TailPosition] = field(default_factory=dict)

    def poll(self) -> list[tuple[Key, Place]]:
        """Batches that were not there at the last poll, or are in another place since.

        A tail may be sealed between listing and opening it: then the folder is listed again.
        """
        new: list[tuple[Key, Place]] = []
        for _ in range(10):
            paths = [path for path in list_folder(self.folder) if is_segment_like(path)]
            if self._read(paths, new):
                break
        return new

    def missing(self, last_seq: Mapping[Writer, int]) -> int:
        """How many batches are missing: below the last one seen, or the last one announced."""
        seen: dict[Writer, int] = {}
        last = dict(last_seq)
        for key in self.keys:
            seen[key.writer] = seen.get(key.writer, 0) + 1
            last[key.writer] = max(key.seq, last.get(key.writer, -1))
        return sum(last[writer] + 1 - seen.get(writer, 0) for writer in last)

    def cut_off(self) -> dict[str, int]:
        """Tails that nobody writes to any more and that end within a batch, with its bytes."""
        ends = ((file, size) for file, size in self.unfinished.items() if size)
        return {file: size for file, size in ends if not is_being_written(self.folder / file)}

    def _read(self, paths: list[Path], new: list[tuple[Key, Place]]) -> bool:
        present = {path.name for path in paths}
        for gone in set(self._positions) - present:
            self._positions.pop(gone)
            self.unfinished.pop(gone, None)
            self.quarantined.pop(gone, None)
        for path in paths:
            name = parse_segment(path)
            try:
                if isinstance(name, Sealed):
                    self._read_sealed(name, new)
                elif isinstance(name, OpenTail):
                    self._read_tail(name, new)
                else:
                    self.quarantined.setdefault(path.name, reason_for_name(path))
            except FileNotFoundError:
                return False
            except OSError as error:
                self.quarantined[path.name] = f"cannot be read: {error.strerror or error}"
        return True

    def _read_sealed(self, name: Sealed, new: list[tuple[Key, Place]]) -> None:
        if name.path.name in self._files:
            return
        try:
            self._take(name.writer, find_batches(name), new)
        except DamagedSegmentError as error:
            self.quarantined[name.path.name] = str(error)
        self._files.add(name.path.name)

    def _read_tail(self, name: OpenTail, new: list[tuple[Key, Place]]) -> None:
        file = name.path.name
        read = read_tail(name.path, self._positions.setdefault(file, TailPosition()))
        batches = ((seq, pa.Table.from_batches([batch])) for seq, batch in read.batches)
        unread = (item for item in batches if Key(name.writer, item[0]) not in self.keys)
        self._take(name.writer, unread, new)
        self.unfinished[file] = read.unfinished
        if read.damaged:
            self.quarantined[file] = "; ".join(read.damaged)

    def _take(
        self,
        writer: Writer,
        batches: Iterable[tuple[int, Place]],
        new: list[tuple[Key, Place]],
    ) -> None:
        for seq, place in batches:
            key = Key(writer, seq)
            self.keys.add(key)
            new.append((key, place))


def reason_for_name(path: Path) -> str:
    """Why a file that claims to hold rows is none of the run's."""
    if path.suffix == ".damaged":
        return "damaged when it was sealed; its readable batches are in the segments beside it"
    return "not named as a segment"
