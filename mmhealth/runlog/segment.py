"""Sealed segments: immutable Parquet files with verified content."""

import json
import os
import zlib
from collections.abc import Sequence
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
        pq.write_table(
            table,
            str(temporary),
            compression="zstd",
            use_dictionary=others,
            use_byte_stream_split=real,
            write_page_checksum=True,
        )
        sync(temporary)
        path = sealed_path(folder, writer, first, last, zlib.crc32(temporary.read_bytes()))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    return path


def read_segment(name: Sealed) -> list[tuple[int, pa.Table]]:
    """The batches of a sealed segment with their numbers. Raises DamagedSegmentError."""
    # Arrow's own memory: a Python object freed by one of its threads while Python exits aborts.
    with pa.OSFile(str(name.path)) as file:
        content = file.read_buffer()
    if not content.size:
        raise DamagedSegmentError("the file is empty")
    if zlib.crc32(content) != name.checksum:
        raise DamagedSegmentError("checksum mismatch: the file is not what was written")
    try:
        with pq.ParquetFile(
            pa.BufferReader(content), page_checksum_verification=True, pre_buffer=False
        ) as parquet:
            table = parquet.read()
        described = json.loads(table.schema.metadata[_METADATA_KEY])["batches"]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(f"cannot be decoded: {error}") from error
    table = table.replace_schema_metadata(None)
    batches = []
    offset = 0
    for seq, rows in described:
        batches.append((int(seq), table.slice(offset, rows)))
        offset += rows
    return batches


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
