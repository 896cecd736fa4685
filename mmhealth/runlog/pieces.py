"""Where the batches of a sealed segment are, and reading them."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.constants import constants
from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.segment import METADATA_KEY, checksum_of


class DamagedSegmentError(Exception):
    """What a file holds is not what was once written to it. Caught by the scanner, never public."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A sealed segment whose content was verified when it was found."""

    path: Path
    schema: pa.Schema

    def read_group(self, group: int) -> pa.Table:
        """One row group, as it was written. Raises DamagedSegmentError, and FileNotFoundError if
        the file is gone."""
        with self._open() as parquet:
            return parquet.read_row_group(group).replace_schema_metadata(None)

    def read_frame(self, group: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Columns of one row group; those that hold one value are told by their statistics.

        Raises what `read_group` does.
        """
        names = self.schema.names if columns is None else columns
        with self._open() as parquet:
            about = parquet.metadata.row_group(group)
            told = constants(about, names)
            left = [name for name in names if name not in told]
            table = parquet.read_row_group(group, columns=left, use_threads=False)
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        rows = about.num_rows
        series = [told[n].new_from_index(0, rows) if n in told else frame[n] for n in names]
        return pl.DataFrame(series).rechunk()

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        path = str(self.path)
        try:
            with pq.ParquetFile(
                path, metadata=_footer(path), page_checksum_verification=True, pre_buffer=False
            ) as parquet:
                yield parquet
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise DamagedSegmentError(f"cannot be decoded: {error}") from error


@lru_cache(64)
def _footer(path: str) -> pq.FileMetaData:
    return pq.read_metadata(path)


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
    try:
        with pq.ParquetFile(str(name.path), pre_buffer=False) as parquet:
            about, schema = parquet.metadata, parquet.schema_arrow
            described = json.loads(schema.metadata[METADATA_KEY])["batches"]
            sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        batches = [(int(seq), int(rows)) for seq, rows in described]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    segment = Segment(name.path, schema.remove_metadata())
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
