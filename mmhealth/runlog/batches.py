"""The rows of one table, batch by batch: in memory from an open tail, on disk once sealed."""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from mmhealth.runlog.layout import Writer
from mmhealth.runlog.pieces import SealedBatches, Segment
from mmhealth.runlog.scan import Found, Key, Place
from mmhealth.runlog.store import DamagedSegmentError

CACHE_BYTES = 32 << 20
"""Decoded rows of sealed segments that a table keeps at hand; more where that is not enough for one
row group of each writer."""

_Name = tuple[str, int, tuple[str, ...] | None]
"""File, row group and columns."""


class Batches:
    """Where each batch is; `read` brings it, and what was read last is kept for the next one.

    Memory holds `CACHE_BYTES`, the open tails, and some bytes a batch.
    """

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        """Files that were whole when they were found and cannot be read any more, by name."""
        self._sealed: dict[Writer, list[SealedBatches]] = {}
        """In the order of their first batch."""
        self._tails: dict[Writer, dict[int, pa.Table]] = {}
        self._cache: OrderedDict[_Name, pl.DataFrame] = OrderedDict()
        self._cached_bytes = 0.0

    def __contains__(self, key: Key) -> bool:
        return self._holder(key) is not None or key.seq in self._tails.get(key.writer, ())

    def __iter__(self) -> Iterator[Key]:
        for writer in self._sealed.keys() | self._tails.keys():
            seqs = set(self._tails.get(writer, ()))
            seqs.update(*(batches.seqs.tolist() for batches in self._sealed.get(writer, ())))
            yield from (Key(writer, seq) for seq in sorted(seqs))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def put(self, found: Found) -> None:
        """Batches are here; where they were before is forgotten."""
        tail = self._tails.setdefault(found.writer, {})
        if isinstance(found.batches, dict):
            tail.update(found.batches)
            return
        new = found.batches
        held = self._sealed.setdefault(found.writer, [])
        held[:] = [old for old in held if not _is_part_of(old, new)]
        insort(held, new, key=_first)
        for seq in [seq for seq in tail if seq in new]:
            del tail[seq]

    def place(self, key: Key) -> Place | None:
        """Where a batch is; None where it is not there."""
        if (holder := self._holder(key)) is not None:
            return holder.piece(key.seq)
        return self._tails.get(key.writer, {}).get(key.seq)

    def num_rows(self, key: Key) -> int:
        """How many rows a batch has that is there."""
        place = self.place(key)
        assert place is not None
        return int(place.num_rows)

    def read(self, key: Key, columns: Collection[str] | None = None) -> pl.DataFrame | None:
        """A batch, or those of its columns that are asked for and there.

        None where it is not there, or the file that held it is damaged by now. Raises
        FileNotFoundError where that is gone: it may have become part of a bigger one. Either way
        all that the file held is forgotten.
        """
        place = self.place(key)
        try:
            return None if place is None else self.read_place(place, columns)
        except DamagedSegmentError as error:
            self._forget(key, str(error))
            return None
        except FileNotFoundError:
            self._forget(key, "is gone")
            raise

    def read_place(self, place: Place, columns: Collection[str] | None = None) -> pl.DataFrame:
        """What is at a place. Raises DamagedSegmentError and FileNotFoundError."""
        if isinstance(place, pa.Table):
            frame = pl.from_arrow(place)
            assert isinstance(frame, pl.DataFrame)
            return frame if columns is None else frame.select(_there(frame.columns, columns))
        names = None if columns is None else _there(place.schema.names, columns)
        parts = [self._group(place.segment, group, names) for group in place.groups]
        whole = parts[0] if len(parts) == 1 else pl.concat(parts)
        return whole.slice(place.offset, place.num_rows)

    def _forget(self, key: Key, reason: str) -> None:
        holder = self._holder(key)
        assert holder is not None
        self.lost[holder.segment.path.name] = reason
        self._sealed[key.writer].remove(holder)

    def _holder(self, key: Key) -> SealedBatches | None:
        held = self._sealed.get(key.writer, [])
        candidates = reversed(held[: bisect_right(held, key.seq, key=_first)])
        return next((batches for batches in candidates if key.seq in batches), None)

    def _group(self, segment: Segment, group: int, columns: tuple[str, ...] | None) -> pl.DataFrame:
        name = segment.path.name, group, columns
        if (frame := self._cache.get(name)) is not None:
            self._cache.move_to_end(name)
            return frame
        frame = segment.read_frame(group, columns)
        self._cache[name] = frame
        size = frame.estimated_size("b")
        self._cached_bytes += size
        most = max(CACHE_BYTES, 2 * len(self._sealed) * size)
        while self._cached_bytes > most and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].estimated_size("b")
        return frame


def _first(batches: SealedBatches) -> int:
    return int(batches.seqs[0]) if len(batches) else -1


def _is_part_of(old: SealedBatches, new: SealedBatches) -> bool:
    return len(old) < len(new) and bool(np.isin(old.seqs, new.seqs).all())


def _there(names: Sequence[str], columns: Collection[str]) -> tuple[str, ...]:
    wanted = set(columns)
    return tuple(name for name in names if name in wanted)
