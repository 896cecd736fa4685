"""Where the batches of a sealed segment are, and reading them."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.segment import METADATA_KEY, checksum_of


class DamagedSegmentError(Exception):
    """What a file holds is not what was once written to it. Caught by the scanner, never public."""


class SegmentFile(Protocol):
    """The file of a sealed segment, wherever it lies."""

    @property
    def name(self) -> str:
        """Its name, without the folder."""

    def open(self) -> pq.ParquetFile:
        """Open it; who does so closes it. Raises DamagedSegmentError, OSError, ArrowException."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A segment on a disk of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """Its name, without the folder."""
        return self.path.name

    def open(self) -> pq.ParquetFile:
        """Open it, whatever it holds."""
        return pq.ParquetFile(str(self.path), page_checksum_verification=True, pre_buffer=False)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A sealed segment that was verified when it was found."""

    path: SegmentFile
    schema: pa.Schema

    def read_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group.

        Raises DamagedSegmentError, FileNotFoundError if the file is gone, and ObjectStoreError
        where an object store does not give it just now.
        """
        try:
            with self.path.open() as parquet:
                table = parquet.read_row_group(group, columns=columns)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise DamagedSegmentError(f"cannot be decoded: {error}") from error
        return table.replace_schema_metadata(None)


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


def find_batches(name: Sealed) -> list[tuple[int, Piece]]:
    """Where the batches of a sealed segment are, with their numbers.

    The whole file is compared with the checksum in its name; no rows are decoded. Raises
    DamagedSegmentError.
    """
    checksum, size = checksum_of(name.path)
    if not size:
        raise DamagedSegmentError("the file is empty")
    if checksum != name.checksum:
        raise DamagedSegmentError("checksum mismatch: the file is not what was written")
    return pieces_of(LocalFile(name.path))


def pieces_of(file: SegmentFile) -> list[tuple[int, Piece]]:
    """Where the batches of a verified file are, as its footer tells. Raises as `Segment` does."""
    try:
        with file.open() as parquet:
            about, schema = parquet.metadata, parquet.schema_arrow
            described = json.loads(schema.metadata[METADATA_KEY])["batches"]
            sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        batches = [(int(seq), int(rows)) for seq, rows in described]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    segment = Segment(file, schema.remove_metadata())
    return list(_pieces(segment, batches, sizes))


def _pieces(
    segment: Segment, batches: Sequence[tuple[int, int]], sizes: Sequence[int]
) -> Iterator[tuple[int, Piece]]:
    starts = [0, *accumulate(sizes)]
    first = 0
    for seq, rows in batches:
        low = max(bisect_right(starts, first) - 1, 0)
        high = max(bisect_left(starts, first + rows), low + 1)
        yield seq, Piece(segment, range(low, min(high, len(sizes))), first - starts[low], rows)
        first += rows
