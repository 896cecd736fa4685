"""Makes few big segments of many small ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from mmhealth.runlog.layout import Sealed, Writer, list_folder, parse_segment
from mmhealth.runlog.pieces import Piece, Segment, find_batches
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
    the same, and the next call ends what was begun. Raises OSError.
    """
    remove_unfinished(run_dir)
    done = Compaction()
    for table in tables:
        names = map(parse_segment, list_folder(run_dir / table))
        sealed = sorted((n for n in names if isinstance(n, Sealed)), key=_place)
        for writer, group in groupby(sealed, key=lambda name: name.writer):
            if wanted(writer):
                for chain in _chains(list(group), target_bytes):
                    if len(chain) >= least:
                        _merge(chain, done)
    return done


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
    parts: list[tuple[Sealed, dict[int, Piece]]] = []
    for name in chain:
        try:
            found = find_batches(name, FolderStore(name.path.parent.parent)).pieces()
        except DamagedSegmentError as error:
            done.left[f"{name.path.parent.name}/{name.path.name}"] = str(error)
            _write(parts, done)
            parts = []
            continue
        if parts and _schema(found) != _schema(parts[-1][1]):
            _write(parts, done)
            parts = []
        parts.append((name, found))
    _write(parts, done)


def _schema(found: dict[int, Piece]) -> pa.Schema | None:
    return next((piece.schema for piece in found.values()), None)


def _write(parts: Sequence[tuple[Sealed, dict[int, Piece]]], done: Compaction) -> None:
    """Write the segments as one and remove them; one that holds all the others stays."""
    if len(parts) < 2:
        return
    pieces: dict[int, Piece] = {}
    for _, found in parts:
        pieces = found | pieces
    whole = next((name for name, found in parts if found.keys() == pieces.keys()), None)
    if whole is None:
        ordered = sorted(pieces.items())
        numbers = [(seq, piece.num_rows) for seq, piece in ordered]
        folder, writer = parts[0][0].path.parent, parts[0][0].writer
        schema = ordered[0][1].schema
        write_segment(folder, writer, numbers, schema, _rows([p for _, p in ordered]))
        done.written += 1
    for name, _ in parts:
        if name is not whole:
            name.path.unlink(missing_ok=True)
            done.merged += 1


def _rows(pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """The rows of batch after batch; each row group is decoded once."""
    held: dict[tuple[Segment, int], pa.Table] = {}
    for piece in pieces:
        wanted = [(piece.segment, group) for group in piece.groups]
        held = {k: held[k] if k in held else k[0].read_group(k[1]) for k in wanted}
        rows = pa.concat_tables(held.values()) if held else piece.schema.empty_table()
        yield rows.slice(piece.offset, piece.num_rows)
