"""Looks around in an object store as if it had folders."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from mmhealth.place import RunUrl
from mmhealth.runlog.storage.connect import connect
from mmhealth.runlog.storage.retries import Retries

_AT_ONCE = 500


def list_folders(url: RunUrl, key: str, deep: bool = False) -> list[str]:
    """Keys of the folders in one, or ``deep``, of itself and all below it.

    ``url`` says how the store is reached. Google's store is always listed down to its objects: it
    names no folders. Raises ObjectStoreError.
    """
    from pyarrow.fs import FileSelector, FileType

    def work() -> list[Any]:
        filesystem, _ = connect(url)
        found: list[Any] = filesystem.get_file_info(
            FileSelector(key, allow_not_found=True, recursive=deep or url.kind == "gs")
        )
        return found

    found = Retries().call(f"{url} cannot be listed", work)
    below = {info.path for info in found if info.type == FileType.Directory}
    for info in found:
        below.update(_folders_of(info.path, key))
    if not deep:
        return sorted(folder for folder in below if "/" not in folder[len(key) + 1 :])
    return sorted(below | {key})


def _folders_of(path: str, key: str) -> Iterator[str]:
    """The folders above an object, below ``key``."""
    while len(path := path.rpartition("/")[0]) > len(key):
        yield path


def hold_file(url: RunUrl, keys: Iterable[str], name: str) -> list[str]:
    """Of these folders those in which there is a file of this name. Raises ObjectStoreError."""
    from pyarrow.fs import FileType

    keys = list(keys)

    def work(some: list[str]) -> list[Any]:
        filesystem, _ = connect(url)
        found: list[Any] = filesystem.get_file_info([f"{key}/{name}" for key in some])
        return found

    held = []
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        found = Retries().call(f"{url} cannot be looked at", partial(work, some))
        held += [key for key, info in zip(some, found, strict=True) if info.type == FileType.File]
    return held
