"""The rows of one table, batch by batch: in memory from an open tail, on disk once sealed."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from mmhealth.runlog.commit_table import by_rank
from mmhealth.runlog.intervals import BoolArray, IntArray, Numbers
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.pieces import SealedBatches, Segment
from mmhealth.runlog.scan import Found, Key, Place

CACHE_BYTES = 32 << 20
"""Decoded rows of sealed segments that a table keeps at hand; more where that is not enough for one
row group of each writer."""

_Name = tuple[Segment, int, frozenset[str] | None]
"""Segment, row group and the columns that were asked for."""


class Batches:
    """Where each batch is; `read` brings it, and what was read last is kept for the next one.

    Memory holds `CACHE_BYTES`, the open tails, and a few bytes a batch.
    """

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        """Files that were whole when they were found and cannot be read any more, by name."""
        self._sealed: dict[Writer, list[SealedBatches]] = {}
        """In the order of their first batch."""
        self._last: dict[Writer, SealedBatches] = {}
        """Where the batch was that was last asked for: mostly the writer's next one is, too."""
        self._tails: dict[Writer, dict[int, pa.Table]] = {}
        self._numbers: dict[Writer, Numbers] = {}
        """Of all that is here."""
        self._cache: OrderedDict[_Name, pl.DataFrame] = OrderedDict()
        self._cached_bytes = 0.0

    def __contains__(self, key: Key) -> bool:
        return key.seq in self._numbers.get(key.writer, ())

    def __iter__(self) -> Iterator[Key]:
        for writer, numbers in self._numbers.items():
            yield from (Key(writer, seq) for seq in numbers.array.tolist())

    def __len__(self) -> int:
        return sum(map(len, self._numbers.values()))

    @property
    def writers(self) -> list[Writer]:
        """Who wrote what is here."""
        return list(self._numbers)

    def numbers(self, writer: Writer) -> Numbers:
        """Of the batches of a writer that are here."""
        return self._numbers.get(writer, Numbers())

    def there(self, attempt: int, ranks: IntArray, seqs: IntArray) -> BoolArray:
        """(batches,) Which batches are here: their writers in one attempt, and their numbers."""
        found = np.zeros(len(seqs), np.bool_)
        for rank, places in by_rank(ranks):
            found[places] = self.numbers(Writer(rank, attempt)).holds(seqs[places])
        return found

    def put(self, found: Found) -> None:
        """Batches are here. A segment that is part of another is forgotten, and so is what of a
        tail is sealed."""
        tail = self._tails.setdefault(found.writer, {})
        self._numbers.setdefault(found.writer, Numbers()).add(found.seqs)
        if isinstance(found.batches, dict):
            tail.update(found.batches)
            return
        new = found.batches
        self.lost.pop(new.segment.path.name, None)
        held = self._sealed.setdefault(found.writer, [])
        self._last.pop(found.writer, None)
        within = slice(
            bisect_left(held, new.first, key=_first), bisect_right(held, new.last, key=_first)
        )
        held[within] = [old for old in held[within] if not _is_part_of(old, new)]
        bigger = self._holder(Key(found.writer, new.first))
        if bigger is None or not _is_part_of(new, bigger):
            insort(held, new, key=_first)
        for seq in [seq for seq in tail if seq in new]:
            del tail[seq]

    def place(self, key: Key) -> Place | None:
        """Where a batch is; None where it is not there."""
        if (holder := self._holder(key)) is not None:
            return holder.piece(key.seq)
        return self._tails.get(key.writer, {}).get(key.seq)

    def schemas(self) -> Iterator[pa.Schema]:
        """Columns and types of all that is here; one after the other, those that repeat too."""
        for held in self._sealed.values():
            yield from (batches.segment.schema for batches in held)
        for tail in self._tails.values():
            yield from (table.schema for table in tail.values())

    def num_rows(self, writer: Writer, seqs: IntArray) -> int:
        """How many rows these batches have, which are here."""
        rows, left = 0, seqs
        for holder in self._sealed.get(writer, ()):
            if not len(left):
                break
            inside = np.isin(left, holder.seqs)
            rows += int(np.isin(holder.row_seqs, left[inside]).sum())
            left = left[~inside]
        tail = self._tails.get(writer, {})
        return rows + sum(int(tail[seq].num_rows) for seq in left.tolist())

    def read_many(
        self, writer: Writer, seqs: IntArray, columns: Collection[str]
    ) -> tuple[pl.DataFrame, IntArray]:
        """Of these batches, which are here, those that lie in one file with the first: columns that
        are asked for and there, and the number of the batch (rows,) that each row lies in.

        Raises DamagedSegmentError, FileNotFoundError and RunUnavailableError.
        """
        holder = self._holder(Key(writer, int(seqs[0])))
        if holder is None:
            tail = self._tails[writer]
            tables = {seq: tail[seq] for seq in seqs.tolist() if seq in tail}
            together = pa.concat_tables(tables.values(), promote_options="permissive")
            frame = self.read_place(together, columns)
            return frame, np.repeat([*tables], [len(table) for table in tables.values()])
        whole, own = holder.segment.read_columns(columns), holder.row_seqs
        wanted = np.isin(own, seqs)
        return (whole, own) if wanted.all() else (whole.filter(pl.Series(wanted)), own[wanted])

    def read_place(self, place: Place, columns: Collection[str] | None = None) -> pl.DataFrame:
        """What is at a place. Raises DamagedSegmentError and FileNotFoundError."""
        if isinstance(place, pa.Table):
            names = place.column_names if columns is None else _there(place.column_names, columns)
            frame = pl.from_arrow(place.select(names))
            assert isinstance(frame, pl.DataFrame)
            return frame
        wanted = None if columns is None else frozenset(columns)
        parts = [self._group(place.segment, group, wanted) for group in place.groups]
        whole = parts[0] if len(parts) == 1 else pl.concat(parts)
        return whole.slice(place.offset, place.num_rows)

    def forget(self, key: Key, reason: str) -> SealedBatches:
        """The file that holds a batch cannot be read, and all that it held is not here any more."""
        holder = self._holder(key)
        assert holder is not None
        self.lost[holder.segment.path.name] = reason
        self._sealed[key.writer].remove(holder)
        self._last.pop(key.writer, None)
        left = self._numbers[key.writer] = Numbers()
        left.add(np.array(sorted(self._tails[key.writer]), np.int64))
        for batches in self._sealed[key.writer]:
            left.add(batches.seqs)
        return holder

    def _holder(self, key: Key) -> SealedBatches | None:
        writer, seq = key
        last = self._last.get(writer)
        if last is not None and seq in last:
            return last
        if key not in self or seq in self._tails.get(writer, ()):
            return None
        held = self._sealed.get(writer, [])
        places = range(bisect_right(held, seq, key=_first) - 1, -1, -1)
        found = next((held[place] for place in places if seq in held[place]), None)
        if found is not None:
            self._last[writer] = found
        return found

    def _group(self, segment: Segment, group: int, columns: frozenset[str] | None) -> pl.DataFrame:
        name = segment, group, columns
        if (frame := self._cache.get(name)) is not None:
            self._cache.move_to_end(name)
            return frame
        frame = segment.read_frame(
            group, None if columns is None else _there(segment.schema.names, columns)
        )
        self._cache[name] = frame
        size = frame.estimated_size("b")
        self._cached_bytes += size
        most = max(CACHE_BYTES, 2 * len(self._sealed) * size)
        while self._cached_bytes > most and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].estimated_size("b")
        return frame


def _first(batches: SealedBatches) -> int:
    return batches.first


def _is_part_of(old: SealedBatches, new: SealedBatches) -> bool:
    if len(old) >= len(new):
        return False
    if isinstance(new.numbers, range):
        return old.first in new.numbers and old.last in new.numbers
    return bool(np.isin(old.seqs, new.numbers).all())


def _there(names: Sequence[str], columns: Collection[str]) -> list[str]:
    wanted = frozenset(columns)
    return [name for name in names if name in wanted]
