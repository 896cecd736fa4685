"""Writes summaries of steps, and removes the rows that they stand for."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.checksum import checksum_of
from mmhealth.runlog.compaction import rows_of
from mmhealth.runlog.intervals import IntArray
from mmhealth.runlog.layout import Sealed, Writer, list_folder, parse_segment, sync
from mmhealth.runlog.pieces import SealedBatches, find_batches
from mmhealth.runlog.reduced import REDUCED, SUMMARY_SCHEMA
from mmhealth.runlog.segment import write_segment
from mmhealth.runlog.store import DamagedSegmentError, FolderStore


@dataclass(slots=True)
class Removal:
    """What went."""

    bytes: int = 0
    removed: int = 0
    """Segments that are gone."""
    rewritten: int = 0
    """Segments that held other steps, too, and were written anew without the rows."""
    waiting: int = 0
    """Segments that hold rows of reduced steps and too many others to be written anew for now."""


def write_summaries(run_dir: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write one row a step, with the columns of `SUMMARY_SCHEMA`, whole or not at all.

    It is fsynced and then gets its name; the run is to be held (`rewriting`). Raises OSError.
    """
    folder = run_dir / REDUCED
    folder.mkdir(exist_ok=True)
    steps = [row["step"] for row in rows]
    temporary = folder / f".{os.getpid()}-{os.urandom(4).hex()}.parquet"
    try:
        table = pa.Table.from_pylist(list(rows), SUMMARY_SCHEMA)
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        sync(temporary)
        checksum = checksum_of(temporary)[0]
        path = folder / f"{min(steps)}-{max(steps)}-{checksum:08x}.parquet"
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    sync(run_dir)
    return path


def remove_unfinished_summaries(run_dir: Path) -> None:
    """Remove what a kill left without a name; the run is to be held."""
    for path in list_folder(run_dir / REDUCED):
        if path.name.startswith("."):
            path.unlink(missing_ok=True)


def remove_batches(
    run_dir: Path, table: str, batches: Mapping[Writer, IntArray], done: Removal, least_share: float
) -> None:
    """Remove batches of a table, by writer their ascending numbers, from its sealed segments; open
    tails are left as they are.

    A segment that holds others, too, is written anew without them if at least ``least_share`` of
    its rows go; the new one has its name before the old one goes. The run is to be held. Raises
    OSError; what is damaged stays.
    """
    folder = run_dir / table
    names = map(parse_segment, list_folder(folder))
    for name in [name for name in names if isinstance(name, Sealed)]:
        gone = batches.get(name.writer, np.empty(0, np.int64))
        low, high = np.searchsorted(gone, (name.first, name.last + 1))
        if low == high:
            continue
        try:
            found = find_batches(name, FolderStore(run_dir))
        except DamagedSegmentError:
            continue
        left = found.seqs[~np.isin(found.seqs, gone)].tolist()
        if len(left) == len(found):
            continue
        size = name.path.stat().st_size
        if left:
            if _share_that_goes(found, left) < least_share:
                done.waiting += 1
                continue
            pieces = [found.piece(seq) for seq in left]
            numbers = [(seq, piece.num_rows) for seq, piece in zip(left, pieces, strict=True)]
            schema = found.segment.schema
            new = write_segment(folder, name.writer, numbers, schema, rows_of(pieces))
            size -= new.stat().st_size
            done.rewritten += 1
        name.path.unlink(missing_ok=True)
        done.removed += not left
        done.bytes += size
    sync(folder)


def _share_that_goes(found: SealedBatches, left: Sequence[int]) -> float:
    rows = int(found.ends[-1])
    kept = sum(found.piece(seq).num_rows for seq in left)
    return 1 - kept / rows if rows else 1.0
