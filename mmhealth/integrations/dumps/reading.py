"""Reads the parts of a dump: here, or in other processes, a few parts ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mmhealth.engines import Engine
from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.parts import Part
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import Row

Read = tuple[Part, Iterator[Row], Problems]
"""A part, its rows, and what is wrong with those that are left out: told as the rows are taken."""


def read_parts(parts: Iterable[Part], engine: Engine | None) -> Iterator[Read]:
    """All parts, in order, with their rows: on an engine, where other processes can read them."""
    parts = iter(parts)
    first = next(parts, None)
    if first is None:
        return
    parts = chain([first], parts)
    if engine is None or not first.portable:
        for part in parts:
            problems = Problems()
            yield part, _rows(part.read, part.files, problems), problems
        return
    drawn = deque[Part]()

    def tasks() -> Iterator[_Task]:
        for part in parts:
            drawn.append(part)
            yield _Task(part.read, part.files)

    for rows, problems in engine.map(_read, tasks()):
        yield drawn.popleft(), iter(rows), problems


@dataclass(frozen=True, slots=True)
class _Task:
    """What another process has to read."""

    read: Callable[[Problems], Iterator[Row]]
    files: Sequence[Path]


def _read(task: _Task) -> tuple[list[Row], Problems]:
    problems = Problems()
    return list(_rows(task.read, task.files, problems)), problems


def _rows(
    read: Callable[[Problems], Iterator[Row]], files: Sequence[Path], problems: Problems
) -> Iterator[Row]:
    """The rows of a part; a file that cannot be read (any more) is a problem, and ends them."""
    try:
        yield from read(problems)
    except (ImportDataError, BadRecordError) as error:
        problems.add(files[0], None, str(error))
    except OSError as error:
        place = files[0] if error.filename is None else Path(error.filename)
        problems.add(place, None, error.strerror or str(error))
