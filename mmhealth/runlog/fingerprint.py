"""Tells whether a run may have changed, without reading it."""

from pathlib import Path

from mmhealth.place import RunPlace, RunUrl
from mmhealth.runlog.layout import RUN_FILE, WRITERS, list_folder
from mmhealth.runlog.storage import ObjectStore
from mmhealth.schema import TABLES

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, size, and time of the last change of each file."""


def fingerprint(run_dir: RunPlace) -> Fingerprint:
    """What a run's files look like from outside; the same as long as nobody writes to the run.

    Files come and go while it is taken; whoever compares two of them sees a change then. Raises
    ObjectStoreError.
    """
    if isinstance(run_dir, RunUrl):
        objects = ObjectStore(run_dir)
        objects.look()
        return tuple((n, about.size, about.changed) for n, about in sorted(objects.infos.items()))
    found: list[tuple[str, int, int]] = []
    _take(run_dir / RUN_FILE, RUN_FILE, found)
    for folder in (WRITERS, *TABLES):
        for path in list_folder(run_dir / folder):
            _take(path, f"{folder}/{path.name}", found)
    return tuple(found)


def _take(path: Path, name: str, found: list[tuple[str, int, int]]) -> None:
    try:
        about = path.stat()
    except FileNotFoundError:
        return
    found.append((name, about.st_size, about.st_mtime_ns))
