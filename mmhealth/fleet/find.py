"""Which runs are meant: by run directories, folders of them, and patterns."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from glob import has_magic, iglob
from pathlib import Path

from mmhealth.errors import RunNotFoundError
from mmhealth.place import RunPlace, RunUrl, run_place
from mmhealth.runlog.layout import RUN_FILE
from mmhealth.runlog.storage.folders import hold_file, list_folders


def find_runs(given: Iterable[str | os.PathLike[str]]) -> list[RunPlace]:
    """The run directories that are meant, each once, sorted by path; URLs of object stores alike.

    A pattern (``*``, ``?``, ``[..]``, and ``**`` for any depth) means the runs among what it
    matches, a folder that is no run the runs below it. Any other path is in the list too: whoever
    reads it says what is wrong with it. Raises RunNotFoundError for a pattern that no run matches,
    and ObjectStoreError.
    """
    found: dict[RunPlace, RunPlace] = {}
    for one in given:
        for path in _runs_at(os.fspath(one)):
            found.setdefault(path.resolve() if isinstance(path, Path) else path, path)
    return sorted(found.values(), key=str)


def _runs_at(text: str) -> Sequence[RunPlace]:
    path = run_place(text)
    if isinstance(path, RunUrl):
        return _urls_at(path)
    if has_magic(text) and not path.exists():
        matches = iglob(text, recursive=True)  # noqa: PTH207, takes absolute patterns too
        runs = [match for match in map(Path, matches) if is_run(match)]
        if not runs:
            raise _no_run(text)
        return runs
    if is_run(path) or not path.is_dir():
        return [path]
    return list(_below(path)) or [path]


def _urls_at(pattern: RunUrl) -> list[RunUrl]:
    """Runs among what a URL matches: folder by folder, and no deeper than it says. A ``?`` begins
    the options of a URL, and is no wildcard there."""
    if not has_magic(pattern.key):
        return [pattern]
    parts = pattern.key.split("/")
    fixed = next(number for number, part in enumerate(parts) if has_magic(part))
    if fixed == 0:
        raise RunNotFoundError(f"{pattern}: name the bucket, a pattern may follow it")
    keys = ["/".join(parts[:fixed])]
    for part in parts[fixed:]:
        below = (key for folder in keys for key in list_folders(pattern, folder, part == "**"))
        keys = sorted(key for key in below if part == "**" or fnmatch(key.rpartition("/")[2], part))
    runs = [replace(pattern, key=key) for key in hold_file(pattern, keys, RUN_FILE)]
    if not runs:
        raise _no_run(str(pattern))
    return runs


def _no_run(pattern: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"no run directory matches {pattern!r}: a run directory has a {RUN_FILE} "
        "(** matches folders of any depth)"
    )


def is_run(path: Path) -> bool:
    """Whether a path is a run directory, readable or not; as one that may not be looked into is
    taken, for whoever judges it to say so."""
    try:
        return (path / RUN_FILE).is_file()
    except PermissionError:
        return True


def _below(folder: Path) -> Iterator[Path]:
    """Run directories below a folder; nothing is looked for inside of runs."""
    for current, folders, files in os.walk(folder):
        if RUN_FILE in files:
            folders.clear()
            yield Path(current)
