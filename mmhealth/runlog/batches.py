"""The rows of one table, batch by batch: in memory from an open tail, on disk once sealed."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

import polars as pl
import pyarrow as pa

from mmhealth.runlog.pieces import DamagedSegmentError, Piece, Segment
from mmhealth.runlog.scan import Key, Place

CACHE_BYTES = 128 << 20
"""Decoded rows of sealed segments that a table keeps at hand."""


_Name = tuple[str, int, tuple[str, ...] | None]
"""File, row group and columns."""


class Batches:
    """Where each batch is; `read` brings it, and what was read last is kept for the next one.

    Memory is bounded by `CACHE_BYTES` and the open tails, whatever the length of the run.
    """

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        """Files that were whole when they were found and cannot be read any more, by name."""
        self._places: dict[Key, Place] = {}
        self._cache: OrderedDict[_Name, pl.DataFrame] = OrderedDict()
        self._cached_bytes = 0.0

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: Key, place: Place) -> None:
        """A batch is here; where it was before is forgotten."""
        self._places[key] = place

    def place(self, key: Key) -> Place | None:
        """Where a batch is; None where it is not there."""
        return self._places.get(key)

    def num_rows(self, key: Key) -> int:
        """How many rows a batch has."""
        return int(self._places[key].num_rows)

    def read(self, key: Key, columns: Collection[str] | None = None) -> pl.DataFrame | None:
        """A batch, or those of its columns that are asked for and there.

        None where the file that held it is damaged by now: its batches are forgotten. Raises
        FileNotFoundError where it is gone: it may have become part of a bigger one.
        """
        place = self._places[key]
        if isinstance(place, pa.Table):
            frame = pl.from_arrow(place)
            assert isinstance(frame, pl.DataFrame)
            return frame if columns is None else frame.select(_there(frame.columns, columns))
        names = None if columns is None else _there(place.schema.names, columns)
        try:
            parts = [self._group(place.segment, group, names) for group in place.groups]
        except DamagedSegmentError as error:
            self.forget(key, str(error))
            return None
        whole = parts[0] if len(parts) == 1 else pl.concat(parts)
        return whole.slice(place.offset, place.num_rows)

    def forget(self, key: Key, reason: str) -> None:
        """The sealed segment that holds this batch cannot be read: forget all it holds."""
        place = self._places[key]
        assert isinstance(place, Piece)
        self.lost[place.segment.path.name] = reason
        held = [k for k, p in self._places.items() if isinstance(p, Piece)]
        for each in held:
            if self._places[each].segment is place.segment:
                del self._places[each]

    def _group(self, segment: Segment, group: int, columns: tuple[str, ...] | None) -> pl.DataFrame:
        name = segment.path.name, group, columns
        if (frame := self._cache.get(name)) is not None:
            self._cache.move_to_end(name)
            return frame
        frame = segment.read_frame(group, columns)
        self._cache[name] = frame
        self._cached_bytes += frame.estimated_size("b")
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].estimated_size("b")
        return frame


def _there(names: Sequence[str], columns: Collection[str]) -> tuple[str, ...]:
    wanted = set(columns)
    return tuple(name for name in names if name in wanted)
