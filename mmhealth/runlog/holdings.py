"""Everything that has been found in a run directory so far, and where it is."""

import json
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from mmhealth.errors import ObjectStoreError
from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commits import Commit, Commits, StepKey
from mmhealth.runlog.layout import WRITERS, Writer, list_writers, parse_writer, writer_path
from mmhealth.runlog.objectscan import ObjectScan
from mmhealth.runlog.scan import Key, Place, TableScan
from mmhealth.runlog.stepdata import stack, to_frame
from mmhealth.runlog.storage import ObjectStore
from mmhealth.schema import TABLES

_LISTING = "(listing)"


class Holdings:
    """Batches, commits and writers' files; `refresh` takes in what is new."""

    def __init__(self, place: Path | ObjectStore) -> None:
        self.place = place
        self.scans = {table: _scan(place, table) for table in TABLES}
        self.batches = {table: Batches() for table in TABLES}
        self.commits = Commits()
        self.writers: dict[Writer, dict[str, Any]] = {}
        """Content of each writer's own file."""
        self.unusable_writers: dict[str, str] = {}
        """Writers' files that cannot be read, with the reason."""
        self.changed: set[StepKey] = set()
        """Steps whose data changed since somebody cleared this."""
        self.unfetched: dict[str, str] = {}
        """Other files that an object store does not give just now, with the reason."""
        self._found_between = False
        self._waiting: dict[str, list[tuple[Key, Place]]] = {}
        self._owners: dict[tuple[str, Key], StepKey] = {}
        self._late: dict[int, list[tuple[Key, pl.DataFrame]]] = {}

    def refresh(self) -> bool:
        """Read what is new; say whether there was anything. Commits come first: what they speak
        of was written before them. Raises ObjectStoreError as long as nothing was listed."""
        self._look_around()
        new = self._read_writers() or self._found_between
        self._found_between = False
        for table in ("steps", *(name for name in TABLES if name != "steps")):
            new |= self._look(table)
        return new

    def frame(self, table: str) -> pl.DataFrame:
        """All rows of a table, committed or not, in order of attempt, rank and number."""
        keys = sorted(self.batches[table], key=_age)
        found = ((key, self._read(table, key)) for key in keys)
        return to_frame((rows, key.writer) for key, rows in found if rows is not None)

    def late_frame(self, step: int) -> pl.DataFrame:
        """Amendments of a step, in order of attempt, rank and number."""
        return stack(
            [rows for _, rows in sorted(self._late.get(step, ()), key=lambda item: _age(item[0]))]
        )

    def committed_frame(
        self, table: str, keys: list[StepKey], columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Rows of these steps, in order of step, rank, and as logged; all columns or those named.

        The columns ``rank`` and ``attempt`` are always there.
        """
        commits = (
            commit for key in keys for _, commit in sorted(self.commits.by_step[key].items())
        )
        found = ((commit, self.rows_of(table, commit, columns)) for commit in commits)
        return to_frame((rows, c.writer) for c, rows in found if rows is not None)

    def rows_of(
        self, table: str, commit: Commit, columns: Collection[str] | None = None
    ) -> pa.Table | None:
        """The rows that a commit speaks of; None where it speaks of none, or they are not there."""
        batch = commit.key(table)
        return None if batch is None else self._read(table, batch, columns)

    def is_complete(self, key: StepKey) -> bool:
        """Whether all expected ranks have committed a step, and all their rows are there."""
        commits = self.commits.by_step[key]
        return len(commits) >= self.commits.ranks_expected(key) and all(
            batch is None or batch in self.batches[table]
            for table in ("trajectories", "updates")
            for batch in (commit.key(table) for commit in commits.values())
        )

    def _take_in(self, table: str, key: Key) -> None:
        if table == "steps":
            for row in _records(self._read(table, key)):
                commit = Commit(key.writer, row["step"], row)
                step = self.commits.add(commit)
                self.changed.add(step)
                for name in ("trajectories", "updates"):
                    if (batch := commit.key(name)) is not None:
                        self._owners[(name, batch)] = step
        elif table in ("trajectories", "updates"):
            if step_key := self._owners.get((table, key)):
                self.changed.add(step_key)
        elif table == "amendments":
            rows = self._read(table, key)
            if rows is None:
                return
            frame = to_frame([(rows, key.writer)])
            late = {
                step: part for (step,), part in frame.partition_by("step", as_dict=True).items()
            }
            for step, part in late.items():
                self._late.setdefault(step, []).append((key, part))
            self.changed |= {step for step in self.commits.by_step if step.step in late}

    def _look(self, table: str) -> bool:
        """Find what is new in a table, and what has moved; say whether anything is new."""
        new = False
        waiting = self._waiting.pop(table, [])
        found = waiting + self.scans[table].poll()
        for number, (key, place) in enumerate(found):
            known = key in self.batches[table] and not (waiting and number == 0)
            self.batches[table].put(key, place)
            if not known:
                new = True
                try:
                    self._take_in(table, key)
                except ObjectStoreError as error:
                    self._waiting[table] = found[number:]
                    self.unfetched[table] = str(error)
                    return new
        self.unfetched.pop(table, None)
        return new

    def _look_around(self) -> None:
        """List what is in the object store, where the run lies in one."""
        if not isinstance(self.place, ObjectStore):
            return
        try:
            self.place.look()
            self.unfetched.pop(_LISTING, None)
        except ObjectStoreError as error:
            if not self.place.infos:
                raise
            self.unfetched[_LISTING] = str(error)

    def _read(
        self, table: str, key: Key, columns: Collection[str] | None = None
    ) -> pa.Table | None:
        """A batch; None where it is not there. A segment that is gone is looked for in others."""
        held = self.batches[table]
        for _ in range(3):
            if key not in held:
                return None
            try:
                return held.read(key, columns)
            except FileNotFoundError:
                self._look_around()
                self._found_between |= self._look(table)
        held.forget(key, "is gone")
        return None

    def _read_writers(self) -> bool:
        new = False
        for writer, file, read in self._writers_files():
            self.unfetched.pop(file, None)
            try:
                content = json.loads(read())
                start = content.get("start_step")
                start = None if start is None else int(start)
            except ObjectStoreError as error:
                self.unfetched[file] = str(error)
                continue
            except (OSError, ValueError, TypeError, AttributeError) as error:
                self.unusable_writers[file] = f"cannot be read: {error}"
                continue
            self.unusable_writers.pop(file, None)
            if content != self.writers.get(writer):
                self.writers[writer] = content
                new = True
                if start is not None:
                    self.commits.declare_start(writer.attempt, start)
        return new

    def _writers_files(self) -> Iterator[tuple[Writer, str, Callable[[], bytes]]]:
        """Each writer, the name of its file, and what reads it."""
        place = self.place
        if isinstance(place, ObjectStore):
            files = {parse_writer(name): f"{WRITERS}/{name}" for name in place.names(WRITERS)}
            there = [(writer, file) for writer, file in files.items() if writer is not None]
            contents = place.together(place.read, [file for _, file in there])
            for (writer, file), content in zip(there, contents, strict=True):
                yield writer, file, partial(_given, content)
            return
        for writer in list_writers(place):
            path = writer_path(place, writer)
            yield writer, str(path.relative_to(place)), path.read_bytes


def _scan(place: Path | ObjectStore, table: str) -> TableScan:
    if isinstance(place, ObjectStore):
        return ObjectScan(Path(table), store=place)
    return TableScan(place / table)


def _given(content: bytes | ObjectStoreError | FileNotFoundError) -> bytes:
    if isinstance(content, FileNotFoundError):
        raise ObjectStoreError("is listed, and not there (yet)")
    if isinstance(content, ObjectStoreError):
        raise content
    return content


def _records(rows: pa.Table | None) -> list[dict[str, Any]]:
    return [] if rows is None else list(rows.to_pylist())


def _age(key: Key) -> tuple[int, int, int]:
    """Order of what writers wrote: attempt, rank, number."""
    return key.writer.attempt, key.writer.rank, key.seq
