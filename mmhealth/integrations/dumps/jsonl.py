"""JSON Lines as trainers write them, one line in memory, and errors by file and line."""

import json
import os
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.parts import Found, Imported, Part
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import Row

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One line that holds a JSON object."""

    path: Path
    number: int
    """From 1."""
    start: int
    end: int
    """Bytes of the file that it takes, its newline included."""
    record: dict[str, Any]


def parse_json(text: bytes) -> Any:
    """What `json.loads` makes of it, sooner where orjson is installed.

    What orjson refuses (NaN and infinities as Python writes them, and what is no JSON) is left to
    `json`; whole numbers of more than 64 bits may be real. Raises ValueError and RecursionError.
    """
    if orjson is not None:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return json.loads(text)


def read_lines(
    path: Path, problems: Problems, *, offset: int = 0, number: int = 0, whole: bool = True
) -> Iterator[Line]:
    """The lines of a file from ``offset``, before which ``number`` lines stand.

    NaN and Infinity are taken as Python writes them. A line that is no JSON object is told and
    passed over; unless ``whole``, a last line without a newline is still being written, and waits.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for text in file:
            start, offset, number = offset, offset + len(text), number + 1
            if not text.strip():
                continue
            cut = not text.endswith(b"\n")
            if cut and not whole:
                return
            try:
                record = parse_json(text)
            except ValueError as error:
                where = "the file ends within this line" if cut else f"not valid JSON: {error}"
                problems.add(path, number, where)
                continue
            except RecursionError:
                problems.add(path, number, "not valid JSON: nested too deeply")
                continue
            if isinstance(record, dict):
                yield Line(path, number, start, offset, record)
            else:
                problems.add(path, number, "not a JSON object")


def first_record(path: Path) -> dict[str, Any] | None:
    """The first JSON object of a file; None where its first lines hold none."""
    try:
        with path.open("rb") as file:
            for _ in range(10):
                text = file.readline(64 << 20)
                if text.strip():
                    record = json.loads(text)
                    return record if isinstance(record, dict) else None
    except (OSError, ValueError, RecursionError):
        return None
    return None


def rows_of(
    parse: Callable[[dict[str, Any], Problems], Row], paths: Sequence[Path], problems: Problems
) -> Iterator[Row]:
    """One row a line."""
    for path in paths:
        for line in read_lines(path, problems):
            try:
                yield parse(line.record, problems)
            except BadRecordError as error:
                problems.add(path, line.number, str(error))


Read = Callable[[Sequence[Line], Problems], Iterator[Row]]
"""Yields the rows of the lines of one step."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two lines of a dump of several files."""

    file: str
    offset: int
    line: int


def stream_parts(
    found: Found,
    files: Sequence[Path],
    step_of: Callable[[dict[str, Any]], int],
    read: Read,
    once_of: Callable[[dict[str, Any]], Hashable],
) -> Iterator[Part]:
    """Parts of a dump whose steps stand one after the other in one file, or in several in order.

    ``files`` are in order of their names. Reading goes on where the last import stopped, if what it
    read last stands there still; that step is read again, since it may have gone on. Lines of one
    step are held in memory. A step that is lower than the one before it is a trainer that went back
    to a checkpoint; so is one in which something comes again that a step has once: what ``once_of``
    gives, where that is not None.
    """
    root = found.root
    start = _resume(root, found.entries)
    names = [str(path.relative_to(root)) for path in files]
    if start.file and start.file not in names:
        start = Place("", 0, 0)
    sizes = [path.stat().st_size for path in files]
    held: list[Line] = []
    step: int | None = None
    begun, seen = start, set[Hashable]()
    told, problems = Problems(), Problems()  # up to the last line of the step, and since
    last = found.entries[-1] if start.file else None
    for path, name in zip(files, names, strict=True):
        if start.file and name < start.file:
            continue
        at = start if name == start.file else Place(name, 0, 0)
        whole = not found.growing or name != names[-1]
        lines = read_lines(path, problems, offset=at.offset, number=at.line, whole=whole)
        for line in lines:
            try:
                here = step_of(line.record)
            except BadRecordError as error:
                problems.add(path, line.number, str(error))
                continue
            once = once_of(line.record)
            if step is not None and (here != step or once in seen):
                new = _part(root, step, begun, held, problems=told, read=read, changed=0.0)
                new = replace(new, reached=(_before(sizes, names, new), sum(sizes)))
                if last is None or new.stamp != last.stamp:
                    yield new
                told.clear()
                last, held, seen = None, [], set()
            if not held:
                begun = Place(name, line.start, line.number - 1)
            step = here
            held.append(line)
            told.absorb(problems)
            problems.clear()
            if once is not None:
                seen.add(once)
    if held and step is not None:
        changed = held[-1].path.stat().st_mtime
        told.absorb(problems)
        new = _part(root, step, begun, held, problems=told, read=read, changed=changed)
        new = replace(new, reached=(sum(sizes), sum(sizes)))
        if last is None or new.stamp != last.stamp:
            yield new
    elif not held:
        found.problems.absorb(problems)


def _part(
    root: Path,
    step: int,
    begun: Place,
    held: list[Line],
    *,
    problems: Problems,
    read: Read,
    changed: float,
) -> Part:
    last = held[-1]
    name = str(last.path.relative_to(root))
    lost = Problems()
    lost.absorb(problems)

    def rows(problems: Problems) -> Iterator[Row]:
        problems.absorb(lost)
        return read(held, problems)

    stamp = {
        "from": [begun.file, begun.offset, begun.line],
        "to": [name, last.end, last.number],
        "crc32": tail_checksum(last.path, last.end),
    }
    return Part(step, stamp, rows, changed, tuple(dict.fromkeys(line.path for line in held)))


def _before(sizes: Sequence[int], names: Sequence[str], part: Part) -> int:
    """Bytes up to the end of a part."""
    name, end, _ = part.stamp["to"]
    return sum(sizes[: names.index(name)]) + int(end)


def _resume(root: Path, entries: Sequence[Imported]) -> Place:
    """Where the last imported step begins, if it stands there still; else the beginning."""
    if entries:
        stamp = entries[-1].stamp
        name, end, _ = stamp["to"]
        if tail_checksum(root / name, end) == stamp["crc32"]:
            return Place(*stamp["from"])
    return Place("", 0, 0)


def tail_checksum(path: Path, end: int) -> int | None:
    """CRC-32 of the last bytes before ``end``; None where the file does not reach there."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < end:
                return None
            file.seek(max(0, end - _TAIL))
            return zlib.crc32(file.read(min(_TAIL, end)))
    except FileNotFoundError:
        return None
