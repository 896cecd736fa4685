"""Which runs are meant: by run directories, folders of them, and patterns."""

import os
from collections.abc import Iterable, Iterator
from glob import has_magic, iglob
from pathlib import Path

from mmhealth.errors import RunNotFoundError
from mmhealth.runlog.layout import RUN_FILE


def find_runs(given: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The run directories that are meant, each once, sorted by path.

    A pattern (``*``, ``?``, ``[..]``, and ``**`` for any depth) means the runs among what it
    matches, a folder that is no run the runs below it. Any other path is in the list too: whoever
    reads it says what is wrong with it. Raises RunNotFoundError for a pattern that no run matches.
    """
    found: dict[Path, Path] = {}
    for one in given:
        for path in _runs_at(os.fspath(one)):
            found.setdefault(path.resolve(), path)
    return sorted(found.values())


def _runs_at(text: str) -> list[Path]:
    path = Path(text)
    if has_magic(text) and not path.exists():
        matches = iglob(text, recursive=True)  # noqa: PTH207, takes absolute patterns too
        runs = [match for match in map(Path, matches) if is_run(match)]
        if not runs:
            raise RunNotFoundError(
                f"no run directory matches {text!r}: a run directory has a {RUN_FILE} "
                "(** matches folders of any depth)"
            )
        return runs
    if is_run(path) or not path.is_dir():
        return [path]
    return list(_below(path)) or [path]


def is_run(path: Path) -> bool:
    """Whether a path is a run directory, readable or not."""
    return (path / RUN_FILE).is_file()


def _below(folder: Path) -> Iterator[Path]:
    """Run directories below a folder; nothing is looked for inside of runs."""
    for current, folders, files in os.walk(folder):
        if RUN_FILE in files:
            folders.clear()
            yield Path(current)
