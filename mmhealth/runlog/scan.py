"""Finds what is new in a run directory: reads each file on its own and names what is damaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from mmhealth.errors import RunUnavailableError
from mmhealth.runlog.intervals import IntArray, Numbers
from mmhealth.runlog.layout import (
    OpenTail,
    Sealed,
    Writer,
    is_segment_like,
    parse_segment,
)
from mmhealth.runlog.pieces import Piece, SealedBatches, find_batches
from mmhealth.runlog.seal import is_being_written
from mmhealth.runlog.store import DamagedSegmentError, Store, not_now
from mmhealth.runlog.tail import TailPosition, read_tail

Place: TypeAlias = pa.Table | Piece
"""Where the rows of a batch are: read from a tail, or in a sealed segment."""


class Key(NamedTuple):
    """Names one batch of one table."""

    writer: Writer
    seq: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file, or part of one, that cannot be read."""

    file: str
    """Path relative to the run directory."""
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Batches that were not there before, or are in another place since."""

    writer: Writer
    batches: SealedBatches | dict[int, pa.Table]
    """In a sealed segment, or by their number in an open tail."""
    new: IntArray
    """Numbers of those that were never seen before, ascending."""

    @property
    def seqs(self) -> IntArray:
        """Numbers of all of them, ascending."""
        if isinstance(self.batches, dict):
            return np.array(sorted(self.batches), np.int64)
        return self.batches.seqs


@dataclass(slots=True)
class TableScan:
    """What has been seen of one table."""

    store: Store
    table: str
    seen: dict[Writer, Numbers] = field(default_factory=dict)
    """Numbers of the batches of each writer."""
    quarantined: dict[str, str] = field(default_factory=dict)
    unfetched: dict[str, str] = field(default_factory=dict)
    """Files that the store did not give at the last poll, with the reason."""
    unfinished: dict[str, int] = field(default_factory=dict)
    """Bytes of a batch being written, by tail."""
    _files: set[str] = field(default_factory=set)
    _positions: dict[str, TailPosition] = field(default_factory=dict)

    def poll(self) -> list[Found]:
        """What is new since the last poll.

        A tail may be sealed between listing and opening it: then the folder is listed again. What
        an object store lists and does not have, or cannot give, waits for the next poll.
        """
        new: list[Found] = []
        for _ in range(self.store.listings):
            if self._read(self.store.names(self.table), new):
                break
        return new

    def look_again(self, writer: Writer, first: int, last: int, lost: str) -> None:
        """Forget that segments of a writer with batches in this range were read, for the file that
        held all of these is ``lost``: those that are still there are new to the next poll.
        """
        folder = self.store.root / self.table
        for file in self._files - {lost}:
            name = parse_segment(folder / file)
            if not isinstance(name, Sealed) or name.writer != writer:
                continue
            if name.first <= last and name.last >= first:
                self._files.remove(file)

    def missing(self, last_seq: Mapping[Writer, int]) -> int:
        """How many batches are missing: below the last one seen, or the last one announced."""
        last = {writer: numbers.last for writer, numbers in self.seen.items()}
        for writer, seq in last_seq.items():
            last[writer] = max(seq, last.get(writer, -1))
        return sum(seq + 1 - len(self.seen.get(writer, ())) for writer, seq in last.items())

    def cut_off(self) -> dict[str, int]:
        """Tails that nobody writes to any more and that end within a batch, with its bytes."""
        folder = self.store.root / self.table
        ends = ((file, size) for file, size in self.unfinished.items() if size)
        return {file: size for file, size in ends if not is_being_written(folder / file)}

    def _read(self, files: Sequence[str], new: list[Found]) -> bool:
        present = set(files)
        for gone in set(self._positions) - present:
            self._positions.pop(gone)
            self.unfinished.pop(gone, None)
            self.quarantined.pop(gone, None)
        self._files &= present
        self.unfetched = {}
        complete = True
        folder = self.store.root / self.table
        paths = [folder / file for file in sorted(present - self._files) if is_segment_like(file)]
        names = [parse_segment(path) for path in paths]
        self.store.fetch([name.path for name in names if isinstance(name, Sealed)])
        for path, name in zip(paths, names, strict=True):
            try:
                if isinstance(name, Sealed):
                    self._read_sealed(name, new)
                elif isinstance(name, OpenTail):
                    self._read_tail(name, new)
                else:
                    self.quarantined.setdefault(path.name, _reason_for_name(path))
            except FileNotFoundError:
                complete = False
                self.unfetched[path.name] = "is listed, and not there (yet)"
            except RunUnavailableError as error:
                self.unfetched[path.name] = str(error)
            except IsADirectoryError as error:
                self.quarantined[path.name] = f"cannot be read: {error.strerror}"
        return complete

    def _read_sealed(self, name: Sealed, new: list[Found]) -> None:
        try:
            batches = find_batches(name, self.store)
            new.append(Found(name.writer, batches, self._see(name.writer, batches.seqs)))
        except DamagedSegmentError as error:
            self.quarantined[name.path.name] = str(error)
        self._files.add(name.path.name)

    def _read_tail(self, name: OpenTail, new: list[Found]) -> None:
        file = name.path.name
        try:
            read = read_tail(name.path, self._positions.setdefault(file, TailPosition()))
        except (FileNotFoundError, IsADirectoryError):
            raise
        except OSError as error:
            raise not_now(name.path, error) from error
        batches = {seq: pa.Table.from_batches([batch]) for seq, batch in read.batches}
        unread = self._see(name.writer, np.array(sorted(batches), np.int64))
        if len(unread):
            new.append(Found(name.writer, {s: batches[s] for s in unread.tolist()}, unread))
        self.unfinished[file] = read.unfinished
        if read.damaged:
            self.quarantined[file] = "; ".join(read.damaged)

    def _see(self, writer: Writer, seqs: IntArray) -> IntArray:
        """Take in numbers; return those that were never seen before."""
        return self.seen.setdefault(writer, Numbers()).add(seqs)


def _reason_for_name(path: Path) -> str:
    if path.suffix == ".damaged":
        return "damaged when it was sealed; its readable batches are in the segments beside it"
    return "not named as a segment"
