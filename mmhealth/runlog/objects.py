"""A run in an object store: one listing a look, range reads, and no byte twice that can be kept."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mmhealth.errors import RunError, UnreachableError
from mmhealth.location import ObjectUrl
from mmhealth.runlog.layout import Sealed
from mmhealth.runlog.store import DamagedSegmentError, compare

SMALL_BYTES = 1 << 20
"""Objects up to this size are fetched whole, once, and compared with their checksum."""
_KEPT_BYTES = 64 << 20
_KEPT_FOOTERS, _KEPT_OPEN = 1024, 64
_ATTEMPTS, _CONNECT_S, _REQUEST_S = 6, 5.0, 30.0
_S3_OPTIONS = ("region", "endpoint_override", "scheme", "anonymous")


class ObjectStore:
    """Reads objects below a prefix. Not thread-safe; pickled, it goes without what it has kept."""

    listings = 1

    def __init__(self, location: ObjectUrl, filesystem: pafs.FileSystem | None = None) -> None:
        self.location = location
        self.root = Path(location.key)
        self.filesystem = filesystem or connect(location)
        self._listed: dict[Path, pafs.FileInfo] = {}
        self._folders: dict[str, list[Path]] = {}
        self._kept: OrderedDict[Path, bytes] = OrderedDict()
        self._footers: OrderedDict[Path, pq.FileMetaData] = OrderedDict()
        self._open: OrderedDict[Path, pa.NativeFile] = OrderedDict()

    def __reduce__(self) -> Any:
        return _reopen, (self.location, self.filesystem, self._listed)

    def look(self) -> None:
        """See `Store.look`: one listing of everything below the prefix."""
        selector = pafs.FileSelector(self.root.as_posix(), recursive=True, allow_not_found=True)
        with self._telling("listed"):
            found = self.filesystem.get_file_info(selector)
        self._listed = {Path(about.path): about for about in found if about.is_file}
        self._folders = {}
        for path in sorted(self._listed):
            self._folders.setdefault(path.parent.name, []).append(path)

    def files(self, folder: str) -> Sequence[Path]:
        """See `Store.files`."""
        return self._folders.get(folder, [])

    def stamp(self, path: Path) -> Any:
        """See `Store.stamp`."""
        about = self._listed.get(path)
        return None if about is None else (about.size, about.mtime_ns)

    def read_text(self, path: Path) -> str:
        """See `Store.read_text`."""
        return self._fetch(path).decode("utf-8")

    def verify(self, name: Sealed) -> None:
        """See `Store.verify`: a small object is fetched and compared; of others pages are, when
        they are read."""
        about = self._listed[name.path]
        if not about.size:
            raise DamagedSegmentError("the object is empty")
        if about.size <= SMALL_BYTES:
            content = self._fetch(name.path)
            compare(name, zlib.crc32(content), len(content))
            self._keep(name.path, content)

    @contextmanager
    def parquet(self, path: Path) -> Iterator[pq.ParquetFile]:
        """See `Store.parquet`."""
        content = self._kept.get(path)
        if content is None and self._listed[path].size <= SMALL_BYTES:
            self._keep(path, content := self._fetch(path))
        with self._telling("read", path):
            source = pa.BufferReader(content) if content is not None else self._opened(path)
            with pq.ParquetFile(
                source,
                metadata=self._footers.get(path),
                page_checksum_verification=True,
                pre_buffer=True,
            ) as file:
                _put(self._footers, path, file.metadata, _KEPT_FOOTERS)
                yield file

    def _opened(self, path: Path) -> pa.NativeFile:
        """An object to read ranges of; opening one asks for its size, so it stays open."""
        file = self._open.get(path)
        if file is None:
            file = self.filesystem.open_input_file(path.as_posix())
        _put(self._open, path, file, _KEPT_OPEN)
        return file

    def _fetch(self, path: Path) -> bytes:
        with (
            self._telling("read", path),
            self.filesystem.open_input_stream(path.as_posix()) as file,
        ):
            return bytes(file.read())

    def _keep(self, path: Path, content: bytes) -> None:
        self._kept[path] = content
        self._kept.move_to_end(path)
        while sum(map(len, self._kept.values())) > _KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)

    @contextmanager
    def _telling(self, what: str, path: Path | None = None) -> Iterator[None]:
        """Tell what is not there from what cannot be had, and from what cannot be decoded."""
        place = self.location if path is None else f"{self.location.scheme}://{path.as_posix()}"
        try:
            yield
        except FileNotFoundError:
            raise
        except pa.ArrowInvalid as error:
            raise DamagedSegmentError(f"cannot be decoded: {error}") from error
        except OSError as error:
            if any(sign in str(error) for sign in ("NoSuchKey", "RESOURCE_NOT_FOUND", "404")):
                raise FileNotFoundError(2, "no such object", str(place)) from error
            if "CRC" in str(error) or "deserialize" in str(error):
                raise DamagedSegmentError(f"cannot be decoded: {error}") from error
            raise UnreachableError(f"{place} cannot be {what}: {error}") from error


def _put(kept: OrderedDict[Path, Any], path: Path, item: Any, most: int) -> None:
    """Keep an item, and forget what was used longest ago."""
    kept[path] = item
    kept.move_to_end(path)
    while len(kept) > most:
        kept.popitem(last=False)


def connect(location: ObjectUrl) -> pafs.FileSystem:
    """The file system that a URL speaks of, with retries and limits of time.

    Credentials, region and endpoint come from the environment, as the store's own tools take them
    (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ...), or from
    options after a ``?``. Raises RunError for options that do not fit.
    """
    try:
        if location.scheme == "s3":
            return _s3(location)
        scheme = {"gcs": "gs", "az": "abfs"}.get(location.scheme, location.scheme)
        options = location.options or ("retry_limit_seconds=60" if scheme == "gs" else "")
        url = f"{scheme}://{location.key}" + (f"?{options}" if options else "")
        return pafs.FileSystem.from_uri(url)[0]
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise RunError(f"{location}: {error}") from error


def _s3(location: ObjectUrl) -> pafs.FileSystem:
    given: dict[str, Any] = {name: v[-1] for name, v in parse_qs(location.options).items()}
    if unknown := sorted(set(given) - set(_S3_OPTIONS)):
        raise RunError(f"{location}: {unknown[0]} is none of {', '.join(_S3_OPTIONS)}")
    endpoints = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    if endpoint := given.get("endpoint_override") or next(filter(None, endpoints), None):
        given["endpoint_override"] = endpoint
    if "anonymous" in given:
        given["anonymous"] = given["anonymous"] == "true"
    return pafs.S3FileSystem(
        **given,
        request_timeout=_REQUEST_S,
        connect_timeout=_CONNECT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


def _reopen(
    location: ObjectUrl, filesystem: pafs.FileSystem, listed: dict[Path, pafs.FileInfo]
) -> ObjectStore:
    store = ObjectStore(location, filesystem)
    store._listed = listed
    return store
