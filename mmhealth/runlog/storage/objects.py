"""Reads a run's objects: one listing for all, ranges of big ones, and a count of all requests."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmhealth.errors import ObjectStoreError
from mmhealth.place import RunUrl
from mmhealth.runlog.storage.connect import connect
from mmhealth.runlog.storage.retries import Retries

T = TypeVar("T")
R = TypeVar("R")

LIST_PAGE = 1_000
"""Objects that a store names in one answer."""
AT_ONCE = 8
"""Requests under way at a time."""
_KEPT_BYTES = 64 << 20
_KEPT_OPEN = 256


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the listing says of an object."""

    size: int
    changed: int
    """When it was last written, nanoseconds since 1970."""


@dataclass(slots=True)
class Requests:
    """How much was asked of the store, failed tries included."""

    count: dict[str, int] = field(default_factory=dict)
    """By kind: list, head, get, put, delete. A listing counts a request for each page."""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.count.values())


class ObjectStore:
    """The objects under one prefix. Safe to use from several threads.

    Files are named relative to the run. What cannot be fetched after some tries raises
    ObjectStoreError; what is not there FileNotFoundError. An empty object is not there yet: Azure
    shows one from the moment in which it is begun, and nothing of a run is empty.
    """

    def __init__(self, url: RunUrl, retries: Retries | None = None) -> None:
        self.url = url
        self.requests = Requests()
        self.retries = retries or Retries()
        self.infos: dict[str, ObjectInfo] = {}
        """The last listing."""
        self._connected: tuple[Any, str] | None = None
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._kept: OrderedDict[tuple[str, ObjectInfo], bytes] = OrderedDict()
        self._kept_bytes = 0

    def look(self) -> None:
        """See what is there now. Raises ObjectStoreError."""
        from pyarrow.fs import FileSelector, FileType

        def work() -> list[Any]:
            filesystem, key = self._connect()
            selector = FileSelector(key, allow_not_found=True, recursive=True)
            try:
                found: list[Any] = filesystem.get_file_info(selector)
            except OSError:
                self._count("list")
                raise
            self._count("list", times=1 + max(len(found) - 1, 0) // LIST_PAGE)
            return found

        found = self.retries.call(f"{self.url} cannot be listed", work)
        start = len(self._connect()[1]) + 1
        self.infos = {
            info.path[start:]: ObjectInfo(info.size, info.mtime_ns or 0)
            for info in found
            if info.type == FileType.File and info.size
        }

    def names(self, folder: str) -> list[str]:
        """Names of the objects right in a folder, in order, as of the last listing."""
        inside = (file.partition("/") for file in self.infos)
        return sorted(name for first, _, name in inside if first == folder and "/" not in name)

    def read(self, file: str) -> bytes:
        """A whole object; one that was read lately and has not changed is not fetched again."""
        info = self.infos.get(file)
        if info is not None:
            with self._lock:
                if (content := self._kept.get((file, info))) is not None:
                    self._kept.move_to_end((file, info))
                    return content

        def work() -> bytes:
            handle, size = self._opened(file)
            return self._ranged(file, handle, 0, size)

        content = self.retries.call(f"{self.url / file} cannot be fetched", work)
        if info is not None and len(content) == info.size:
            self._keep(file, info, content)
        return content

    def read_range(self, file: str, start: int, size: int) -> bytes:
        """Bytes of an object."""

        def work() -> bytes:
            handle, _ = self._opened(file)
            return self._ranged(file, handle, start, size)

        return self.retries.call(f"{self.url / file} cannot be fetched", work)

    def write(self, file: str, write: Callable[[Any], int]) -> None:
        """Make an object of what ``write`` puts into the stream; it tells how many bytes."""

        def work() -> int:
            filesystem, key = self._connect()
            self._count("put")
            stream = filesystem.open_output_stream(f"{key}/{file}")
            size = write(stream)
            stream.close()
            return size

        size = self.retries.call(f"{self.url / file} cannot be written", work)
        with self._lock:
            self.requests.bytes_written += size

    def delete(self, file: str) -> None:
        """Remove an object; one that is gone already is as good."""

        def work() -> None:
            filesystem, key = self._connect()
            self._count("delete")
            filesystem.delete_file(f"{key}/{file}")

        try:
            self.retries.call(f"{self.url / file} cannot be removed", work)
        except FileNotFoundError:
            return

    def together(
        self, work: Callable[[T], R], items: Iterable[T]
    ) -> list[R | ObjectStoreError | FileNotFoundError]:
        """Work on items some at a time; results, or what could not be fetched, in their order."""

        def attempt(item: T) -> R | ObjectStoreError | FileNotFoundError:
            try:
                return work(item)
            except (ObjectStoreError, FileNotFoundError) as error:
                return error

        items = list(items)
        if len(items) < 2:
            return [attempt(item) for item in items]
        with ThreadPoolExecutor(min(AT_ONCE, len(items)), "mmhealth-fetch") as pool:
            return list(pool.map(attempt, items))

    def _connect(self) -> tuple[Any, str]:
        with self._lock:
            if self._connected is None:
                self._connected = connect(self.url)
            return self._connected

    def _opened(self, file: str) -> tuple[Any, int]:
        """The object and its size, asked for once: opening costs a request of its own."""
        with self._lock:
            if (handle := self._open.get(file)) is not None:
                self._open.move_to_end(file)
        if handle is None:
            filesystem, key = self._connect()
            self._count("head")
            handle = filesystem.open_input_file(f"{key}/{file}")
            if not handle.size():
                raise FileNotFoundError(2, "is empty (yet)", str(self.url / file))
            with self._lock:
                if file.endswith(".parquet"):
                    self._open[file] = handle
                while len(self._open) > _KEPT_OPEN:
                    self._open.popitem(last=False)
        return handle, int(handle.size())

    def _ranged(self, file: str, handle: Any, start: int, size: int) -> bytes:
        self._count("get")
        try:
            content: bytes = handle.read_at(size, start)
        except OSError:
            with self._lock:
                self._open.pop(file, None)
            raise
        with self._lock:
            self.requests.bytes_read += len(content)
        if len(content) != size:
            raise OSError(f"{len(content)} of {size} bytes arrived")
        return content

    def _keep(self, file: str, info: ObjectInfo, content: bytes) -> None:
        with self._lock:
            self._kept_bytes += len(content) - len(self._kept.pop((file, info), b""))
            self._kept[(file, info)] = content
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def _count(self, kind: str, *, times: int = 1) -> None:
        with self._lock:
            self.requests.count[kind] = self.requests.count.get(kind, 0) + times
