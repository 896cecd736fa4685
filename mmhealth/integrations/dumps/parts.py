"""A dump is a sequence of parts, one a step: what they are, and which of them are new."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row

_LAST_STEP = 1 << 53

Stamp = dict[str, Any]
"""What tells, as JSON, whether a part is still the one that was imported."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One part that an import has committed."""

    step: int
    stamp: Stamp
    rows: int


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one step, not read yet."""

    step: int
    stamp: Stamp
    read: Callable[[Problems], Iterator[Row]]
    """Yields good rows one by one; tells `Problems` of the others."""
    changed: float = 0.0
    """When its files last changed, seconds since 1970; 0 where it is known to be complete."""
    files: tuple[Path, ...] = field(default=())
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Numbers that describe the whole step."""
    reached: tuple[int, int] = (0, 0)
    """Bytes of the dump up to its end, and bytes that there are to read."""
    portable: bool = False
    """``read`` can be pickled: another process can do it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a format is told when it is asked for parts."""

    root: Path
    """The folder (or file) that the format found."""
    entries: Sequence[Imported] = ()
    """What was imported before, in order."""
    problems: Problems = field(default_factory=Problems)
    """Told of what belongs to no part."""
    growing: bool = False
    """A last line that is cut off is still being written."""


def in_view(entries: Iterable[Imported]) -> dict[int, Imported]:
    """What stands of all that was imported: a step imported anew hides it and all later steps."""
    standing: dict[int, Imported] = {}
    last: int | None = None
    for entry in entries:
        if last is not None and entry.step <= last:
            standing = {step: old for step, old in standing.items() if step < entry.step}
        standing[entry.step] = entry
        last = entry.step
    return standing


def step_files(
    found: Found,
    steps: Iterable[tuple[int, Sequence[Path]]],
    read: Callable[[Sequence[Path], Problems], Iterator[Row]],
    *,
    appended: bool = False,
    portable: bool = True,
) -> Iterator[Part]:
    """Parts of a dump that has files of its own for each step, in order of steps.

    From the first on whose files are not as they were imported: size and time of change tell. Where
    a file was written again, the trainer went back: later steps whose files are as they were when
    they were imported are of the attempt that died, and wait until they are written again. Where
    files are ``appended`` to, or come late, nothing of that follows. ``read`` is ``portable`` if it
    can be pickled.
    """
    standing = in_view(found.entries)
    latest = {entry.step: entry for entry in found.entries}
    went_back, dead = False, list[Imported]()
    new: list[tuple[int, Sequence[Path], Stamp, list[os.stat_result]]] = []
    for step, files in sorted(steps):
        if step > _LAST_STEP:
            _no_step(found.problems, sorted(files)[0], step)
            continue
        try:
            about = [(path, path.stat()) for path in sorted(files)]
        except FileNotFoundError:  # removed since it was listed
            continue
        stamp = {str(path.relative_to(found.root)): [s.st_size, s.st_mtime_ns] for path, s in about}
        old, before = standing.get(step), latest.get(step)
        same = before is not None and before.stamp == stamp
        if before is not None and same and not appended and (went_back or old is None):
            dead.append(before)
        elif new or old is None or old.stamp != stamp:
            new.append((step, files, stamp, [s for _, s in about]))
            went_back |= before is not None and any(
                before.stamp[name] != stamp[name] for name in before.stamp.keys() & stamp.keys()
            )
    if dead:
        found.problems.notices[
            "rows: files that the trainer has not written again since it went back to an earlier "
            f"step (steps {dead[0].step} to {dead[-1].step}) are left out until it does"
        ] = sum(entry.rows for entry in dead)
    total, done = sum(s.st_size for *_, stats in new for s in stats), 0
    for step, files, stamp, stats in new:
        done += sum(s.st_size for s in stats)
        changed = max((s.st_mtime for s in stats), default=0.0)
        paths = tuple(sorted(files))
        rows = partial(read, tuple(files))
        yield Part(step, stamp, rows, changed, paths, reached=(done, total), portable=portable)


def _no_step(problems: Problems, path: Path, number: int) -> None:
    """Tell of a number in a name that is no step's, once, however often the dump is looked at."""
    if all(problem.path != path for problem in problems.first):
        problems.add(path, None, f"{number} is too large for a step; left out")
