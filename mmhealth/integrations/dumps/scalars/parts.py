"""Readings of a log, merged into steps.

A step's values come in several records, from several files, and, where trainer and sampler run
asynchronously, a few steps apart. So the last `WINDOW` steps are held open. A scalar that goes back
below a step for which it was logged already is a trainer that went back to a checkpoint.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.jsonl import tail_checksum
from mmhealth.integrations.dumps.parts import Found, Imported, Part, Stamp, in_view
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.scalars.names import ours

WINDOW = 16
"""Steps that are held open."""
PATIENCE_S = 600.0
"""The last step of a growing log may go on for so long: an evaluation is logged after it, and a
SummaryWriter keeps events to itself for two minutes."""
_LATE = f"values logged more than {WINDOW} steps late are left out"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one record says of one step."""

    step: int
    values: dict[str, float]
    time: float
    """When it was logged; orders the records of several files. 0 where there is one file."""
    start: int
    end: int
    """Bytes of the file that it takes."""
    number: int
    """Of the record in its file, from 1."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place between two records of a file."""

    offset: int = 0
    number: int = 0
    """Records before it."""


Read = Callable[[Path, Spot, bool, Problems], Iterator[Reading]]
"""Reads a file from a spot on; the bool says that the file is whole: nothing is being written."""


@dataclass(slots=True)
class _Step:
    values: dict[str, float] = field(default_factory=dict)
    begins: dict[str, Spot] = field(default_factory=dict)
    """By file, before its first record of this step."""


class _Window:
    """The steps that are open, and how far each file has been read."""

    def __init__(self, ends: dict[str, Spot], below: int | None, problems: Problems) -> None:
        self.steps: dict[int, _Step] = {}
        self._ends = ends
        self._below = below
        """All steps below have been given out."""
        self._last: dict[str, int] = {}
        """By scalar, the last step for which it was logged."""
        self._problems = problems

    def goes_back(self, reading: Reading) -> bool:
        """Whether the trainer has gone back to a checkpoint; then a new attempt begins."""
        return any(self._last.get(name, -1) > reading.step for name in reading.values)

    def forget(self) -> None:
        """Begin an attempt."""
        self.steps, self._below, self._last = {}, None, {}

    def add(self, file: str, reading: Reading) -> None:
        """Take a reading in; values that are logged again replace the earlier ones."""
        self._ends[file] = Spot(reading.end, reading.number)
        if self._below is not None and reading.step < self._below:
            self._problems.note(_LATE, len(reading.values))
            return
        step = self.steps.setdefault(reading.step, _Step())
        step.values |= reading.values
        step.begins.setdefault(file, Spot(reading.start, reading.number - 1))
        for name in reading.values:
            self._last[name] = max(reading.step, self._last.get(name, -1))

    def close(self, number: int) -> _Step:
        """Give out the lowest step."""
        self._below = number + 1
        return self.steps.pop(number)

    def stamp(self) -> Stamp:
        """Where to read on, so that all open steps are read anew."""
        begins = dict(self._ends)
        for step in self.steps.values():
            for file, spot in step.begins.items():
                begins[file] = min(begins[file], spot, key=lambda found: found.offset)
        return {
            "from": {file: [spot.offset, spot.number] for file, spot in begins.items()},
            "to": {file: [spot.offset, spot.number] for file, spot in self._ends.items()},
            "open": min(self.steps, default=0),
        }


def scalar_parts(
    found: Found, files: Sequence[Path], read: Read, *, lag: int = 0, patience: float = PATIENCE_S
) -> Iterator[Part]:
    """Parts of a log, one a step, those that are new or say something else than when imported.

    Args:
        found: what is asked for.
        files: of the log; their records are merged by time.
        read: reads one of them.
        lag: steps behind the highest that may still get values while the log grows.
        patience: seconds of silence after which these, and the highest, are taken as they are.
    """
    base = _base(found.root)
    paths = {str(path.relative_to(base)): path for path in files}
    spots, below = _resume(base, paths, found.entries)
    lost = Problems()
    window = _Window(dict(spots), below, lost)
    standing = in_view(found.entries)
    news = _News(paths, base, {n: e.stamp.get("crc32") for n, e in standing.items()}, lost)
    for file, reading in _merged(paths, spots, read, not found.growing, lost):
        if window.goes_back(reading):
            yield from news.all(window)
            window.forget()
            news.told = True  # were its values those of before, its later steps would stand
        window.add(file, reading)
        if len(window.steps) > WINDOW:
            yield from news.of(window, [min(window.steps)])
    yield from _rest(found, window, news, lag, patience)
    if news.told or not found.entries:
        found.problems.absorb(lost)


def _rest(
    found: Found, window: _Window, news: "_News", lag: int, patience: float
) -> Iterator[Part]:
    """What is open at the end; of a log that grows, no more than one step that may go on."""
    changed = max((path.stat().st_mtime for path in news.paths.values()), default=0.0)
    if not found.growing or time.time() - changed > patience:
        yield from news.all(window, changed)
        return
    numbers = sorted(window.steps)
    yield from news.of(window, numbers[: max(1, len(numbers) - lag)], changed + patience)


class _News:
    """Makes parts of steps, from the first on that is not as it was imported."""

    def __init__(
        self, paths: dict[str, Path], base: Path, known: dict[int, Any], lost: Problems
    ) -> None:
        self.paths = paths
        self.told = False
        self._base = base
        self._total = sum(path.stat().st_size for path in paths.values())
        self._known = known
        self._lost = lost

    def all(self, window: _Window, changed: float = 0.0) -> Iterator[Part]:
        """Every step that is open."""
        return self.of(window, sorted(window.steps), changed)

    def of(self, window: _Window, numbers: list[int], changed: float = 0.0) -> Iterator[Part]:
        """These steps; ``changed`` is of the last one."""
        stamp = window.stamp()
        stamp["tails"] = {
            file: tail_checksum(self._base / file, offset)
            for file, (offset, _) in stamp["to"].items()
        }
        for number in numbers:
            values = ours(window.close(number).values)
            crc = zlib.crc32(json.dumps(sorted(values.items())).encode())
            if not self.told and self._known.get(number) == crc:
                continue
            self.told = True
            problems = Problems()
            problems.absorb(self._lost)
            self._lost.clear()
            yield Part(
                number,
                stamp | {"crc32": crc},
                _nothing_but(problems),
                changed if number == numbers[-1] else 0.0,
                tuple(self.paths.values()),
                values,
                (sum(spot[0] for spot in stamp["to"].values()), self._total),
            )


def _nothing_but(problems: Problems) -> Callable[[Problems], Iterator[Any]]:
    """A part's reader: no trajectory, and what could not be read."""

    def read(told: Problems) -> Iterator[Any]:
        told.absorb(problems)
        return iter(())

    return read


def _merged(
    paths: dict[str, Path], spots: dict[str, Spot], read: Read, whole: bool, lost: Problems
) -> Iterator[tuple[str, Reading]]:
    def readings(file: str) -> Iterator[tuple[str, Reading]]:
        for reading in read(paths[file], spots[file], whole, lost):
            yield file, reading

    return merge(*map(readings, sorted(paths)), key=lambda item: item[1].time)


def _resume(
    base: Path, paths: dict[str, Path], entries: Sequence[Imported]
) -> tuple[dict[str, Spot], int | None]:
    """Where to read on, if all that was read stands there still; else the beginning."""
    if entries:
        stamp = entries[-1].stamp
        tails = {file: tail_checksum(base / file, at) for file, (at, _) in stamp["to"].items()}
        if tails == stamp["tails"] and set(tails) <= set(paths):
            begins = {file: Spot(*spot) for file, spot in stamp["from"].items()}
            return {file: begins.get(file, Spot()) for file in paths}, stamp["open"]
    return dict.fromkeys(paths, Spot()), None


def _base(root: Path) -> Path:
    return root if root.is_dir() else root.parent
