"""Finds what is new in a run directory: reads each file on its own and names what is damaged."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mmhealth.runlog.layout import (
    OpenTail,
    Sealed,
    Writer,
    is_segment_like,
    list_folder,
    parse_segment,
)
from mmhealth.runlog.segment import DamagedSegmentError, read_segment
from mmhealth.runlog.tail import TailPosition, read_tail


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
    _files: set[str] = field(default_factory=set)
    _positions: dict[str, TailPosition] = field(default_factory=dict)

    def poll(self) -> list[tuple[Key, pa.Table]]:
        """Batches that were not there at the last poll, each exactly once.

        A tail may be sealed between listing and opening it: then the folder is listed again.
        """
        new: list[tuple[Key, pa.Table]] = []
        for _ in range(10):
            paths = [path for path in list_folder(self.folder) if is_segment_like(path)]
            if self._read(paths, new):
                break
        return new

    def gaps(self) -> list[tuple[Writer, int]]:
        """For each writer how many sequence numbers are missing below the last one seen."""
        numbers: dict[Writer, list[int]] = {}
        for key in self.keys:
            numbers.setdefault(key.writer, []).append(key.seq)
        missing = ((writer, max(seqs) + 1 - len(seqs)) for writer, seqs in sorted(numbers.items()))
        return [(writer, count) for writer, count in missing if count]

    def _read(self, paths: list[Path], new: list[tuple[Key, pa.Table]]) -> bool:
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
                    self.quarantined.setdefault(path.name, _reason_for_name(path))
            except FileNotFoundError:
                return False
        return True

    def _read_sealed(self, name: Sealed, new: list[tuple[Key, pa.Table]]) -> None:
        if name.path.name in self._files:
            return
        covered = (Key(name.writer, seq) for seq in range(name.first, name.last + 1))
        if not all(key in self.keys for key in covered):
            try:
                batches = read_segment(name)
            except DamagedSegmentError as error:
                self.quarantined[name.path.name] = str(error)
                self._files.add(name.path.name)
                return
            self._take(name.writer, batches, new)
        self._files.add(name.path.name)

    def _read_tail(self, name: OpenTail, new: list[tuple[Key, pa.Table]]) -> None:
        file = name.path.name
        read = read_tail(name.path, self._positions.setdefault(file, TailPosition()))
        batches = ((seq, pa.Table.from_batches([batch])) for seq, batch in read.batches)
        self._take(name.writer, batches, new)
        self.unfinished[file] = read.unfinished
        if read.damaged:
            self.quarantined[file] = "; ".join(read.damaged)

    def _take(
        self,
        writer: Writer,
        batches: Iterable[tuple[int, pa.Table]],
        new: list[tuple[Key, pa.Table]],
    ) -> None:
        for seq, rows in batches:
            key = Key(writer, seq)
            if key not in self.keys:
                self.keys.add(key)
                new.append((key, rows))


def _reason_for_name(path: Path) -> str:
    if path.suffix == ".damaged":
        return "damaged when it was sealed; its readable batches are in the segments beside it"
    return "not named as a segment"
