"""Where the batches of a sealed segment are, and reading them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mmhealth.runlog.constants import constants
from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.segment import described_batches
from mmhealth.runlog.store import DamagedSegmentError, Store

IntArray = np.ndarray[Any, np.dtype[np.int64]]


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
        rows = about.num_rows
        series = [told[n].new_from_index(0, rows) if n in told else frame[n] for n in names]
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
    """Which batches a sealed segment holds, and where: some bytes a batch."""

    segment: Segment
    seqs: IntArray
    """(batches,) their numbers, ascending."""
    ends: IntArray
    """(batches,) rows of the segment up to the end of each."""
    group_starts: IntArray
    """(groups,) rows of the segment before each row group."""

    def __len__(self) -> int:
        return int(self.seqs.size)

    def __contains__(self, seq: int) -> bool:
        place = int(np.searchsorted(self.seqs, seq))
        return place < self.seqs.size and int(self.seqs[place]) == seq

    def piece(self, seq: int) -> Piece:
        """Where a batch is that is held."""
        place = int(np.searchsorted(self.seqs, seq))
        end = int(self.ends[place])
        begin = int(self.ends[place - 1]) if place else 0
        low = max(int(np.searchsorted(self.group_starts, begin, side="right")) - 1, 0)
        high = max(int(np.searchsorted(self.group_starts, end)), low + 1)
        groups = range(low, min(high, self.group_starts.size))
        before = int(self.group_starts[low]) if groups else 0
        return Piece(self.segment, groups, begin - before, end - begin)

    def pieces(self) -> dict[int, Piece]:
        """All of them, by number."""
        return {seq: self.piece(seq) for seq in self.seqs.tolist()}


def find_batches(name: Sealed, store: Store) -> SealedBatches:
    """The batches of a sealed segment, which is compared with its checksum; no rows are decoded.

    Raises DamagedSegmentError, FileNotFoundError and ObjectStoreError.
    """
    store.verify(name)
    with store.parquet(name.path) as parquet:
        about, schema = parquet.metadata, parquet.schema_arrow
        sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    try:
        seqs, rows = np.array(described_batches(schema), np.int64).reshape(-1, 2).T
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    segment = Segment(name.path, _shared(schema.remove_metadata()), store)
    starts = np.concatenate(([0], np.cumsum(sizes)))[:-1].astype(np.int64)
    return SealedBatches(segment, seqs.copy(), np.cumsum(rows), starts)


_SCHEMAS: dict[bytes, pa.Schema] = {}


def _shared(schema: pa.Schema) -> pa.Schema:
    """One object for all schemas that are alike: a run has few of them, and many segments."""
    return _SCHEMAS.setdefault(schema.serialize().to_pybytes(), schema)
