"""Sealed segments: immutable Parquet files with verified content."""

import json
import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.layout import (
    DAMAGED_SUFFIX,
    OpenTail,
    Sealed,
    Writer,
    parse_segment,
    sealed_path,
    sync,
)
from mmhealth.runlog.tail import TailPosition, read_tail

_METADATA_KEY = b"mmhealth"
_CHUNK_BYTES = 1 << 20
_GROUP_ROWS = 1 << 15
"""Rows from which on a row group ends with the batch: what a reader decodes at once."""


class DamagedSegmentError(Exception):
    """What a file holds is not what was once written to it. Caught by the scanner, never public."""


def write_segment(
    folder: Path, writer: Writer, batches: Sequence[tuple[int, pa.RecordBatch]]
) -> Path:
    """Write batches (in order of their numbers) as one sealed segment, whole or not at all.

    Page checksums are on, the file is fsynced, then renamed into place. Doing it twice is harmless.
    """
    table = pa.Table.from_batches([batch for _, batch in batches])
    rows = [[seq, batch.num_rows] for seq, batch in batches]
    metadata = {_METADATA_KEY: json.dumps({"batches": rows}).encode()}
    table = table.replace_schema_metadata(metadata)
    real = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    others = [name for name in table.column_names if name not in real]
    first, last = batches[0][0], batches[-1][0]
    temporary = (
        folder / f".{writer.rank}-{writer.attempt}-{first}.{os.getpid()}.{os.urandom(4).hex()}"
    )
    try:
        with pq.ParquetWriter(
            str(temporary),
            table.schema,
            compression="zstd",
            use_dictionary=others,
            use_byte_stream_split=real,
            write_page_checksum=True,
        ) as parquet:
            for group in _groups(table, [batch.num_rows for _, batch in batches]):
                parquet.write_table(group, row_group_size=max(group.num_rows, 1))
        sync(temporary)
        path = sealed_path(folder, writer, first, last, zlib.crc32(temporary.read_bytes()))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    return path


def _groups(table: pa.Table, sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The table in row groups: each ends with a batch, the first that fills it."""
    begin = end = 0
    for number, size in enumerate(sizes, 1):
        end += size
        if end - begin >= _GROUP_ROWS or number == len(sizes):
            yield table.slice(begin, end - begin)
            begin = end


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A sealed segment whose content was verified when it was found."""

    path: Path
    schema: pa.Schema

    def read_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group. Raises DamagedSegmentError, and FileNotFoundError if the file is gone."""
        try:
            with pq.ParquetFile(
                str(self.path), page_checksum_verification=True, pre_buffer=False
            ) as parquet:
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
    checksum, size = 0, 0
    with name.path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    if not size:
        raise DamagedSegmentError("the file is empty")
    if checksum != name.checksum:
        raise DamagedSegmentError("checksum mismatch: the file is not what was written")
    try:
        with pq.ParquetFile(str(name.path), pre_buffer=False) as parquet:
            about, schema = parquet.metadata, parquet.schema_arrow
            described = json.loads(schema.metadata[_METADATA_KEY])["batches"]
            sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        batches = [(int(seq), int(rows)) for seq, rows in described]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    segment = Segment(name.path, schema.remove_metadata())
    return [(seq, piece) for seq, piece in _pieces(segment, batches, sizes)]


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


def seal_tail(path: Path) -> Path | None:
    """Turn a tail that nobody writes to any more into a sealed segment.

    An unfinished last batch was never committed and is dropped. A tail with damaged batches is kept
    beside its segment under the suffix ``.damaged``. Returns None when there was nothing to seal.
    """
    name = parse_segment(path)
    if not isinstance(name, OpenTail):
        raise ValueError(f"{path} is not a tail")
    try:
        read = read_tail(path, TailPosition())
    except FileNotFoundError:
        return None
    batches = sorted(read.batches, key=lambda batch: batch[0])
    sealed = write_segment(path.parent, name.writer, batches) if batches else None
    if read.damaged:
        path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
    else:
        path.unlink(missing_ok=True)
    return sealed
