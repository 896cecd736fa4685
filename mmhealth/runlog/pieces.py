"""Where the batches of a sealed segment are, and reading them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mmhealth.runlog.constants import constants
from mmhealth.runlog.intervals import IntArray
from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.segment import described_batches
from mmhealth.runlog.store import DamagedSegmentError, Store


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A sealed segment, verified when it was found as far as its store does that."""

    path: Path
    schema: pa.Schema
    store: Store

    def read_group(self, group: int) -> pa.Table:
        """One row group, as it was written. Raises DamagedSegmentError, and FileNotFoundError if
        the file is gone."""
        with self.store.parquet(self.path) as parquet:
            return parquet.read_row_group(group).replace_schema_metadata(None)

    def read_columns(self, columns: Collection[str]) -> pl.DataFrame:
        """Of all rows the columns that are asked for and there. Raises what `read_group` does."""
        names = [name for name in self.schema.names if name in columns]
        with self.store.parquet(self.path) as parquet:
            frame = pl.from_arrow(parquet.read(columns=names, use_threads=False))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def read_frame(self, group: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Columns of one row group; those that hold one value are told by their statistics.

        Raises what `read_group` does.
        """
        names = self.schema.names if columns is None else columns
        with self.store.parquet(self.path) as parquet:
            about = parquet.metadata.row_group(group)
            told = constants(about, names)
            left = [name for name in names if name not in told]
            table = parquet.read_row_group(group, columns=left, use_threads=False)
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        series = [told[name] if name in told else frame[name] for name in names]
        return pl.DataFrame(series).rechunk()


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one batch in a sealed segment."""

    segment: Segment
    groups: range
    """Row groups that hold them."""
    offset: int
    """Rows of these groups that come before."""
    num_rows: int

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types."""
        return self.segment.schema


@dataclass(frozen=True, slots=True, eq=False)
class SealedBatches:
    """Which batches a sealed segment holds, and where: a few bytes a batch."""

    segment: Segment
    numbers: range | IntArray
    """(batches,) their numbers, ascending."""
    ends: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
    """(batches,) rows of the segment up to the end of each."""
    group_starts: IntArray
    """(groups,) rows of the segment before each row group."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, seq: int) -> bool:
        if isinstance(self.numbers, range):
            return seq in self.numbers
        place = self._place(seq)
        return place < len(self) and int(self.numbers[place]) == seq

    @property
    def first(self) -> int:
        """The lowest number; -1 where there is none."""
        return int(self.numbers[0]) if len(self) else -1

    @property
    def last(self) -> int:
        """The highest number; -1 where there is none."""
        return int(self.numbers[-1]) if len(self) else -1

    @property
    def seqs(self) -> IntArray:
        """(batches,) Their numbers, ascending."""
        if isinstance(self.numbers, range):
            return np.arange(self.numbers.start, self.numbers.stop, dtype=np.int64)
        return self.numbers

    @property
    def row_seqs(self) -> IntArray:
        """(rows,) The number of the batch that each row lies in."""
        return np.repeat(self.seqs, np.diff(self.ends.astype(np.int64), prepend=0))

    def piece(self, seq: int) -> Piece:
        """Where a batch is that is held."""
        place = self._place(seq)
        end = int(self.ends[place])
        begin = int(self.ends[place - 1]) if place else 0
        starts = self.group_starts
        if starts.size == 1:  # as in most small segments, of which a run may have many
            return Piece(self.segment, range(1), begin, end - begin)
        low = max(int(starts.searchsorted(begin, side="right")) - 1, 0)
        high = max(int(starts.searchsorted(end)), low + 1)
        groups = range(low, min(high, starts.size))
        before = int(starts[low]) if groups else 0
        return Piece(self.segment, groups, begin - before, end - begin)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Number and rows of each batch."""
        rows = np.diff(self.ends.astype(np.int64), prepend=0)
        return list(zip(self.seqs.tolist(), rows.tolist(), strict=True))

    def pieces(self) -> dict[int, Piece]:
        """All of them, by number."""
        return {seq: self.piece(seq) for seq in self.seqs.tolist()}

    def _place(self, seq: int) -> int:
        if isinstance(self.numbers, range):
            return seq - self.numbers.start
        return int(np.searchsorted(self.numbers, seq))


def find_batches(name: Sealed, store: Store) -> SealedBatches:
    """The batches of a sealed segment, which is compared with its checksum; no rows are decoded.

    Raises DamagedSegmentError, FileNotFoundError and ObjectStoreError.
    """
    store.verify(name)
    with store.parquet(name.path) as parquet:
        about, schema = parquet.metadata, parquet.schema_arrow
        sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    try:
        seqs, rows = described_batches(about).T
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    segment = Segment(name.path, _shared(schema.remove_metadata()), store)
    starts = np.concatenate(([0], np.cumsum(sizes)))[:-1].astype(np.int64)
    ends = np.cumsum(rows)
    small = ends.astype(np.min_scalar_type(int(ends[-1])) if len(ends) else np.uint8)
    return SealedBatches(segment, _as_range(seqs), small, starts)


def _as_range(seqs: IntArray) -> range | IntArray:
    """Numbers that follow one another need no array."""
    if len(seqs) and (np.diff(seqs) == 1).all():
        return range(int(seqs[0]), int(seqs[-1]) + 1)
    return seqs.copy()


_SCHEMAS: dict[bytes, pa.Schema] = {}


def _shared(schema: pa.Schema) -> pa.Schema:
    """One object for all schemas that are alike: a run has few of them, and many segments."""
    return _SCHEMAS.setdefault(schema.serialize().to_pybytes(), schema)
