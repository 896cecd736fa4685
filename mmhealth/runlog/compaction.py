"""Makes few big segments of many small ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmhealth.runlog.intervals import distinct
from mmhealth.runlog.layout import Sealed, Writer, list_folder, parse_segment
from mmhealth.runlog.pieces import Piece, SealedBatches, Segment, find_batches
from mmhealth.runlog.rewriting import rewriting
from mmhealth.runlog.seal import remove_unfinished
from mmhealth.runlog.segment import write_segment
from mmhealth.runlog.store import DamagedSegmentError, FolderStore
from mmhealth.schema import TABLES

TARGET_BYTES = 256 << 20
"""Size from which on a segment is big enough."""


@dataclass(slots=True)
class Compaction:
    """What was done."""

    merged: int = 0
    """Segments that are part of bigger ones now."""
    written: int = 0
    """Bigger ones."""
    left: dict[str, str] = field(default_factory=dict)
    """Segments, relative to the run, that cannot be read and stay as they are, with the reason."""
    busy: bool = False
    """Nothing was done, since another process removes rows of the run just now."""


def compact(
    run_dir: Path,
    *,
    target_bytes: int = TARGET_BYTES,
    least: int = 2,
    wanted: Callable[[Writer], bool] = lambda _: True,
    tables: Iterable[str] = TABLES,
) -> Compaction:
    """Merge ``least`` or more neighbouring sealed segments of a writer into one, up to about
    ``target_bytes``.

    Rows, their order and the numbers of batches stay; only columns of equal names and types are
    merged. Writers and readers may be at work: the bigger segment has its name before the small
    ones go, and a batch that is in both is one batch. A kill at any moment leaves a run that reads
    the same, and the next call ends what was begun. While another process reduces the run nothing
    is done. Raises OSError and RunUnavailableError.
    """
    done = Compaction()
    with rewriting(run_dir, alone=False) as held:
        done.busy = held is False
        if not done.busy:
            remove_unfinished(run_dir)
            for table in tables:
                for chain in _chains_in(run_dir / table, wanted, target_bytes):
                    if len(chain) >= least:
                        _merge(chain, done)
    return done


def _chains_in(
    folder: Path, wanted: Callable[[Writer], bool], target_bytes: int
) -> Iterator[list[Sealed]]:
    names = map(parse_segment, list_folder(folder))
    sealed = sorted((n for n in names if isinstance(n, Sealed)), key=_place)
    for writer, group in groupby(sealed, key=lambda name: name.writer):
        if wanted(writer):
            yield from _chains(list(group), target_bytes)


def _place(name: Sealed) -> tuple[Writer, int, int]:
    return name.writer, name.first, -name.last


def _chains(names: Sequence[Sealed], target_bytes: int) -> Iterator[list[Sealed]]:
    """Segments that belong in one: each begins where the one before ends, or lies within it."""
    chain: list[Sealed] = []
    size = reach = 0
    for name in names:
        within = bool(chain) and name.last <= reach
        if not within and chain and (name.first != reach + 1 or size >= target_bytes):
            yield chain
            chain, size = [], 0
        chain.append(name)
        if not within:
            size, reach = size + name.path.stat().st_size, name.last
    yield chain


def _merge(chain: Sequence[Sealed], done: Compaction) -> None:
    """Merge what of a chain is whole and alike."""
    parts: list[tuple[Sealed, SealedBatches]] = []
    for name in chain:
        try:
            found = find_batches(name, FolderStore(name.path.parent.parent))
        except DamagedSegmentError as error:
            done.left[f"{name.path.parent.name}/{name.path.name}"] = str(error)
            _write(parts, done)
            parts = []
            continue
        if parts and found.segment.schema != parts[-1][1].segment.schema:
            _write(parts, done)
            parts = []
        parts.append((name, found))
    _write(parts, done)


def _write(parts: Sequence[tuple[Sealed, SealedBatches]], done: Compaction) -> None:
    """Write the segments as one and remove them; one that holds all the others stays."""
    if len(parts) < 2:
        return
    held = [found for _, found in parts]
    batches = distinct(np.concatenate([found.seqs for found in held]))
    whole = next((name for name, found in parts if len(found) == len(batches)), None)
    if whole is None:
        folder, writer = parts[0][0].path.parent, parts[0][0].writer
        in_order = all(one.last < other.first for one, other in pairwise(held))
        numbers, rows = _in_order(held) if in_order else _overlapping(held)
        write_segment(folder, writer, numbers, held[0].segment.schema, rows)
        done.written += 1
    for name, _ in parts:
        if name is not whole:
            name.path.unlink(missing_ok=True)
            done.merged += 1


def _in_order(held: Sequence[SealedBatches]) -> tuple[list[tuple[int, int]], Iterator[pa.Table]]:
    """Numbers and rows of the batches of segments each of which begins behind the one before."""
    groups = ((f.segment, group) for f in held for group in range(f.group_starts.size))
    rows = (segment.read_group(group) for segment, group in groups)
    return [size for found in held for size in found.sizes], rows


def _overlapping(held: Sequence[SealedBatches]) -> tuple[list[tuple[int, int]], Iterator[pa.Table]]:
    """The same where a batch may be in several."""
    pieces: dict[int, Piece] = {}
    for found in held:
        pieces = found.pieces() | pieces
    ordered = sorted(pieces.items())
    return [(seq, piece.num_rows) for seq, piece in ordered], rows_of([p for _, p in ordered])


def rows_of(pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """The rows of batch after batch; each row group is decoded once."""
    held: dict[tuple[Segment, int], pa.Table] = {}
    for piece in pieces:
        wanted = [(piece.segment, group) for group in piece.groups]
        held = {k: held[k] if k in held else k[0].read_group(k[1]) for k in wanted}
        rows = pa.concat_tables(held.values()) if held else piece.schema.empty_table()
        yield rows.slice(piece.offset, piece.num_rows)
