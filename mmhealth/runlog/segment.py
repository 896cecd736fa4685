"""Sealed segments: immutable Parquet files, written whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.checksum import checksum_of
from mmhealth.runlog.intervals import IntArray
from mmhealth.runlog.layout import (
    DAMAGED_SUFFIX,
    OpenTail,
    Writer,
    list_writers,
    parse_segment,
    sealed_path,
    sync,
    unnamed_segment,
)
from mmhealth.runlog.lock import try_lock
from mmhealth.runlog.tail import TailPosition, read_tail

METADATA_KEY = b"mmhealth"
_BLANKS = bytes.maketrans(b"[]}", b"   ")
_GROUP_ROWS, _LEAST_GROUP_ROWS = 1 << 15, 1 << 12
"""Rows from which on a row group ends with the batch, which a reader decodes at once: of few ranks,
and of many."""
_ROWS_AT_HAND = 1 << 19
"""Who reads step by step has a row group of each rank at hand: so many rows, where groups may be
small enough."""


def write_segment(
    folder: Path,
    writer: Writer,
    batches: Sequence[tuple[int, int]],
    schema: pa.Schema,
    tables: Iterable[pa.Table],
) -> Path:
    """Write batches as one sealed segment, whole or not at all; doing it twice is harmless.

    ``batches`` are their numbers, ascending, and how many rows each has; ``tables`` hold these rows
    in order, cut wherever it is convenient. Page checksums are on, the file is fsynced, then
    renamed into place; it is locked until then, so that what a kill leaves is told from what grows.
    """
    first, last = batches[0][0], batches[-1][0]
    described = json.dumps({"batches": batches}, separators=(",", ":")).encode()
    temporary = unnamed_segment(folder, writer, first)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try_lock(descriptor)
        _write(temporary, schema.remove_metadata(), batches, tables, described)
        os.fsync(descriptor)
        path = sealed_path(folder, writer, first, last, checksum_of(temporary)[0])
        temporary.rename(path)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
    sync(folder)
    return path


def _write(
    path: Path,
    schema: pa.Schema,
    batches: Sequence[tuple[int, int]],
    tables: Iterable[pa.Table],
    described: bytes,
) -> None:
    """Real numbers are split by byte, whole ones told by their differences: quick to read, and
    numbers that count up take no room."""
    real = [field.name for field in schema if pa.types.is_floating(field.type)]
    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    with pq.ParquetWriter(
        str(path),
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name not in {*real, *whole}],
        use_byte_stream_split=real,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
    ) as parquet:
        for group in _groups(schema, [rows for _, rows in batches], tables, _group_rows(path)):
            parquet.write_table(group, row_group_size=max(group.num_rows, 1))
        # In the schema's own metadata it would stand twice, and be decoded with each opening.
        parquet.add_key_value_metadata({METADATA_KEY: described})


def _group_rows(path: Path) -> int:
    ranks = {writer.rank for writer in list_writers(path.parent.parent)}
    return min(max(_ROWS_AT_HAND // max(len(ranks), 1), _LEAST_GROUP_ROWS), _GROUP_ROWS)


def _groups(
    schema: pa.Schema, sizes: Sequence[int], tables: Iterable[pa.Table], least: int
) -> Iterator[pa.Table]:
    """The rows in row groups: each ends with a batch, the first that fills it."""
    source, held = iter(tables), list[pa.Table]()
    there = wanted = 0
    for number, size in enumerate(sizes, 1):
        wanted += size
        if wanted < least and number < len(sizes):
            continue
        while there < wanted:
            held.append(next(source).replace_schema_metadata(None))
            there += held[-1].num_rows
        rows = pa.concat_tables(held) if held else schema.empty_table()
        yield rows.slice(0, wanted)
        held, there, wanted = [rows.slice(wanted)], there - wanted, 0


def described_batches(footer: pq.FileMetaData) -> IntArray:
    """(batches, 2) Number and rows of each batch, as a segment's footer says.

    Raises KeyError, TypeError, ValueError.
    """
    text = (footer.metadata or {})[METADATA_KEY]
    start, _, pairs = text.partition(b":")
    if start == b'{"batches"' and not pairs.translate(None, b"0123456789[], }"):
        # Ten times as fast as `json.loads`: a long run has millions.
        numbers = np.fromstring(pairs.translate(_BLANKS), np.int64, sep=",")
        if len(numbers) == pairs.count(b",") + 1:
            return numbers.reshape(-1, 2)
    return np.array(json.loads(text)["batches"], np.int64).reshape(-1, 2)


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
    sealed = None
    if batches:
        numbers = [(seq, rows.num_rows) for seq, rows in batches]
        tables = (pa.Table.from_batches([rows]) for _, rows in batches)
        sealed = write_segment(path.parent, name.writer, numbers, batches[0][1].schema, tables)
    if read.damaged:
        path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
    else:
        path.unlink(missing_ok=True)
    return sealed
