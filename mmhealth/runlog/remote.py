"""A run in an object store, as readers want it: one listing a look, and ranges of big segments.

Segments up to `WHOLE_BYTES` are fetched whole and compared with the checksum in their name. Of
bigger ones the footer is fetched, and of the rows the ranges that hold the columns asked for, which
Parquet's page checksums cover.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.errors import ObjectStoreError
from mmhealth.place import RunUrl
from mmhealth.runlog.footers import Footers
from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.storage import ObjectStore
from mmhealth.runlog.store import DamagedSegmentError, compare

WHOLE_BYTES = 1 << 20
"""Size up to which a segment is fetched in one request."""


class RemoteStore:
    """Paths are relative to the run. Pickled, it goes without what it has kept."""

    listings = 1
    is_far = True
    root = Path()

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._footers = Footers()

    def __reduce__(self) -> Any:
        return _again, (self.objects.url, self.objects.infos)

    @property
    def place(self) -> RunUrl:
        """See `Store.place`."""
        return self.objects.url

    def look(self) -> None:
        """See `Store.look`."""
        self.objects.look()

    def names(self, folder: str) -> Sequence[str]:
        """See `Store.names`."""
        return self.objects.names(folder)

    def fetch(self, paths: Sequence[Path]) -> None:
        """See `Store.fetch`: several requests at a time."""
        small = [path.as_posix() for path in paths if self._size(path) <= WHOLE_BYTES]
        self.objects.together(self.objects.read, small)

    def stamp(self, path: Path) -> Any:
        """See `Store.stamp`."""
        return self.objects.infos.get(path.as_posix())

    def read_text(self, path: Path) -> str:
        """See `Store.read_text`."""
        return self.objects.read(path.as_posix()).decode("utf-8")

    def verify(self, name: Sealed) -> None:
        """See `Store.verify`: of big objects pages are compared, when they are read."""
        size = self._size(name.path)
        if size <= WHOLE_BYTES:
            content = self.objects.read(name.path.as_posix())
            compare(name, zlib.crc32(content), len(content))

    @contextmanager
    def parquet(self, path: Path) -> Iterator[pq.ParquetFile]:
        """See `Store.parquet`."""
        try:
            with pq.ParquetFile(
                self._source(path),
                metadata=self._footers.get(path),
                page_checksum_verification=True,
                pre_buffer=True,
            ) as file:
                self._footers.keep(path, file.metadata)
                yield file
        except (ObjectStoreError, FileNotFoundError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise DamagedSegmentError(f"cannot be decoded: {error}") from error

    def _source(self, path: Path) -> Any:
        if (size := self._size(path)) > WHOLE_BYTES:
            return _Ranges(self.objects, path.as_posix(), size)
        return pa.BufferReader(self.objects.read(path.as_posix()))

    def _size(self, path: Path) -> int:
        info = self.objects.infos.get(path.as_posix())
        if info is None:
            raise FileNotFoundError(2, "no such object", str(self.objects.url / path.as_posix()))
        return info.size


def _again(url: RunUrl, infos: dict[str, Any]) -> RemoteStore:
    objects = ObjectStore(url)
    objects.infos = infos
    return RemoteStore(objects)


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
