"""Finds what is new of a run in an object store, as `scan` does in a folder.

Segments up to `WHOLE_BYTES` are fetched whole and compared with the checksum in their name. Of
bigger ones the footer is fetched, and of the rows the ranges that hold the columns asked for, which
Parquet's page checksums cover.
"""

import io
import time
import zlib
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.errors import ObjectStoreError
from mmhealth.runlog.layout import Sealed, is_segment_like, parse_segment
from mmhealth.runlog.pieces import DamagedSegmentError, Piece, pieces_of
from mmhealth.runlog.scan import Key, Place, TableScan, reason_for_name
from mmhealth.runlog.storage import ObjectStore

WHOLE_BYTES = 1 << 20
"""Size up to which a segment is fetched in one request."""
_LOOKS = 3


class ObjectFile:
    """A segment in an object store."""

    def __init__(self, store: ObjectStore, name: Sealed) -> None:
        self.name = name.path.name
        self._store = store
        self._file = name.path.as_posix()
        self._size = store.infos[self._file].size
        self._checksum = name.checksum
        self._footer: pq.FileMetaData | None = None

    def open(self) -> pq.ParquetFile:
        """Open it. Raises DamagedSegmentError, ObjectStoreError and FileNotFoundError."""
        if not self._size:
            raise DamagedSegmentError("the file is empty")
        if self._size > WHOLE_BYTES:
            parquet = pq.ParquetFile(
                _Ranges(self._store, self._file, self._size),
                metadata=self._footer,
                page_checksum_verification=True,
                pre_buffer=True,
            )
            self._footer = parquet.metadata
            return parquet
        content = self._store.read(self._file)
        if zlib.crc32(content) != self._checksum:
            raise DamagedSegmentError("checksum mismatch: the object is not what was written")
        return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)


@dataclass(slots=True)
class ObjectScan(TableScan):
    """What has been seen of one table; its folder is relative to the run.

    An object that is listed and not there yet, or that cannot be fetched just now, is no damage:
    the next poll tries again.
    """

    store: ObjectStore = field(kw_only=True)

    def poll(self) -> list[tuple[Key, Place]]:
        """Batches that were not in the listing before last, or could not be fetched then."""
        new: list[tuple[Key, Place]] = []
        for again in range(_LOOKS):
            if self._find_new(new) or again + 1 == _LOOKS:
                break
            time.sleep(self.store.retries.pause(1 + again))
            try:
                self.store.look()
            except ObjectStoreError:
                break
        return new

    def _find_new(self, new: list[tuple[Key, Place]]) -> bool:
        """Take in what is new; False where something that is listed was not there."""
        paths = [self.folder / name for name in self.store.names(self.folder.name)]
        self.unfetched.clear()
        fresh: list[Sealed] = []
        for path in filter(is_segment_like, paths):
            name = parse_segment(path)
            if not isinstance(name, Sealed):
                self.quarantined.setdefault(path.name, reason_for_name(path))
            elif path.name not in self._files:
                fresh.append(name)
        for name, found in zip(fresh, self.store.together(self._find, fresh), strict=True):
            file = name.path.name
            if isinstance(found, FileNotFoundError):
                self.unfetched[file] = "is listed, and not there (yet)"
            elif isinstance(found, ObjectStoreError):
                self.unfetched[file] = str(found)
            else:
                self._files.add(file)
                if isinstance(found, str):
                    self.quarantined[file] = found
                else:
                    self._take(name.writer, found, new)
        return not any("listed" in why for why in self.unfetched.values())

    def _find(self, name: Sealed) -> list[tuple[int, Piece]] | str:
        """The batches of a segment, or why it is damaged."""
        try:
            return pieces_of(ObjectFile(self.store, name))
        except DamagedSegmentError as error:
            return str(error)


class _Ranges(io.RawIOBase):
    """An object as a file: each read is one request."""

    def __init__(self, store: ObjectStore, file: str, size: int) -> None:
        self._store, self._file, self._size = store, file, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._position, 0)
        size = left if size < 0 else min(size, left)
        content = self._store.read_range(self._file, self._position, size) if size else b""
        self._position += len(content)
        return content
