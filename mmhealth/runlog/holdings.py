"""Everything that has been found in a run directory so far, and where it is."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmhealth.errors import RunUnavailableError
from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commit_table import COMMIT_COLUMNS, Rows, columns_of
from mmhealth.runlog.commits import Commit, Commits, StepKey
from mmhealth.runlog.completeness import COMMITTED, Awaited, StepCounts, step_counts
from mmhealth.runlog.intervals import BoolArray, IntArray, distinct
from mmhealth.runlog.layout import WRITERS, Writer, parse_writer
from mmhealth.runlog.pieces import SealedBatches
from mmhealth.runlog.reduced import TABLES_REDUCED, Reductions
from mmhealth.runlog.scan import Key, TableScan
from mmhealth.runlog.stepdata import stack, to_frame
from mmhealth.runlog.store import DamagedSegmentError, Store
from mmhealth.schema import TABLES

_LISTING = "listing"


class Holdings:
    """Batches, commits and writers' files; `refresh` takes in what is new."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scans = {table: TableScan(store, table) for table in TABLES}
        self.batches = {table: Batches() for table in TABLES}
        self.commits = Commits()
        self.reduced = Reductions(store)
        self.writers: dict[Writer, dict[str, Any]] = {}
        """Content of each writer's own file."""
        self.unusable_writers: dict[str, str] = {}
        """Writers' files that cannot be read, with the reason."""
        self._changed: dict[int, list[IntArray]] = defaultdict(list)
        """By attempt, steps whose data changed since somebody took this."""
        self._new: dict[int, list[IntArray]] = defaultdict(list)
        """By attempt, steps with commits of which nobody has yet seen what they speak of."""
        self.unfetched: dict[str, str] = {}
        """What the store did not give at the last look, with the reason."""
        self._waiting: dict[str, list[tuple[Writer, IntArray]]] = {}
        """By table, batches that are yet to be taken in, for they could not be fetched."""
        self._stamps: dict[Path, Any] = {}
        self._found_between = False
        self._awaited = {table: Awaited() for table in COMMITTED}
        self._late: dict[int, list[tuple[Key, pl.DataFrame]]] = {}

    def refresh(self) -> bool:
        """Read what is new; say whether there was anything. Commits come first: what they speak
        of was written before them. What an object store does not give is in `unfetched`, and
        waits for the next call. Raises ObjectStoreError as long as nothing was ever listed.
        """
        self._look_around()
        new = self._read_writers() or self._found_between
        self._found_between = False
        for table in ("steps", *(name for name in TABLES if name != "steps")):
            new |= self._look(table)
        for attempt, steps in _merged(self._new).items():
            for table, awaited in self._awaited.items():
                awaited.put(self.commits, self.batches[table], table, attempt, steps)
        self._new.clear()
        return self._look_at_reduced() or new

    def take_changed(self) -> dict[int, IntArray]:
        """By attempt, the steps whose data changed since the last call, ascending."""
        changed = _merged(self._changed)
        self._changed.clear()
        return changed

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
        commits = (commit for key in keys for commit in self.commits.of(key).values())
        found = ((commit, self.rows_of(table, commit, columns)) for commit in commits)
        return to_frame((rows, c.writer) for c, rows in found if rows is not None)

    def rows_of(
        self, table: str, commit: Commit, columns: Collection[str] | None = None
    ) -> pl.DataFrame | None:
        """The rows that a commit speaks of; None where it speaks of none, or they are not there, or
        the step is reduced.

        All columns or those named; of the table ``steps``, which is the commit itself, all.
        """
        if table in TABLES_REDUCED and commit.step_key in self.reduced.steps:
            return None
        batch = commit.key(table)
        wanted = None if table == "steps" else columns
        return None if batch is None else self._read(table, batch, wanted)

    def counts(self, attempt: int, steps: IntArray) -> Iterator[StepCounts]:
        """What of steps is there, each of which some rank has committed; a part at a time."""
        reduced = self.reduced.of(attempt)
        return step_counts(self.commits, self.batches, attempt, steps, reduced)

    def are_complete(self, attempt: int, steps: IntArray) -> BoolArray:
        """Whether all expected ranks have committed steps, and all their rows are there."""
        parts = [counts.complete for counts in self.counts(attempt, steps)]
        return np.concatenate(parts) if parts else np.empty(0, np.bool_)

    def _take_in(self, table: str, writer: Writer, seqs: IntArray, commits: Rows) -> None:
        """Take in batches that were not there before; the commits in them go to ``commits``."""
        if table == "steps":
            self._read_commits(writer, seqs, commits)
        elif table in COMMITTED:
            if len(steps := self._awaited[table].take(writer, seqs)):
                self._changed[writer.attempt].append(steps)
        elif table == "amendments":
            for seq in seqs.tolist():
                self._take_in_late(Key(writer, seq))

    def _read_commits(self, writer: Writer, seqs: IntArray, commits: Rows) -> None:
        held = self.batches["steps"]
        while len(seqs := seqs[held.numbers(writer).holds(seqs)]):
            try:
                rows, own = held.read_many(writer, seqs, COMMIT_COLUMNS)
            except (DamagedSegmentError, FileNotFoundError) as error:
                self._lose("steps", Key(writer, int(seqs[0])), error)
                continue
            commits.append(columns_of(writer.rank, own, rows))
            seqs = seqs[~np.isin(seqs, own)]

    def _take_in_late(self, key: Key) -> None:
        rows = self._read("amendments", key)
        if rows is None:
            return
        frame = to_frame([(rows, key.writer)])
        late = {step: part for (step,), part in frame.partition_by("step", as_dict=True).items()}
        for step, part in late.items():
            self._late.setdefault(step, []).append((key, part))
        for attempt, commits in self.commits.tables.items():
            there = [step for step in late if commits.has(step)]
            self._changed[attempt].append(np.array(there, np.int64))

    def _look(self, table: str) -> bool:
        """Find what is new in a table, and what has moved; say whether anything is new."""
        held, waiting = self.batches[table], self._waiting.pop(table, [])
        self.unfetched.pop(table, None)
        try:
            polled = self.scans[table].poll()
        except RunUnavailableError as error:
            self.unfetched[table] = str(error)
            polled = []
        for found in polled:
            unknown = found.new
            if held.lost:
                unknown = found.seqs[~held.numbers(found.writer).holds(found.seqs)]
            held.put(found)
            if len(unknown):
                waiting.append((found.writer, unknown))
        commits: dict[int, Rows] = defaultdict(Rows)
        for number, (writer, seqs) in enumerate(waiting):
            try:
                self._take_in(table, writer, seqs, commits[writer.attempt])
            except RunUnavailableError as error:
                self._waiting.setdefault(table, []).extend(waiting[number:])
                self.unfetched[table] = str(error)
                break
        for attempt, rows in commits.items():
            if len(rows):
                steps = self.commits.add(attempt, rows)
                self._changed[attempt].append(steps)
                self._new[attempt].append(steps)
        return bool(waiting)

    def _look_at_reduced(self) -> bool:
        """Find steps that were reduced, after the tables: a summary stands before rows go."""
        new: dict[int, list[int]] = defaultdict(list)
        for key in self.reduced.refresh():
            if (commits := self.commits.tables.get(key.attempt)) and commits.has(key.step):
                new[key.attempt].append(key.step)
        for attempt, steps in new.items():
            self._changed[attempt].append(np.array(steps, np.int64))
        return bool(new)

    def _look_around(self) -> None:
        """See which files there are; where that fails, what was seen before still stands."""
        try:
            self.store.look()
            self.unfetched.pop(_LISTING, None)
        except RunUnavailableError as error:
            if not self.store.names(WRITERS):
                raise
            self.unfetched[_LISTING] = str(error)

    def _read(
        self, table: str, key: Key, columns: Collection[str] | None = None
    ) -> pl.DataFrame | None:
        """A batch; None where it is not there. Raises RunUnavailableError."""
        held = self.batches[table]
        while (place := held.place(key)) is not None:
            try:
                return held.read_place(place, columns)
            except (DamagedSegmentError, FileNotFoundError) as error:
                self._lose(table, key, error)
        return None

    def _lose(self, table: str, key: Key, error: DamagedSegmentError | FileNotFoundError) -> None:
        """The segment that held a batch is damaged or gone: look for what it held in others, which
        are bigger, or smaller and were forgotten over it.
        """
        held, gone = self.batches[table], isinstance(error, FileNotFoundError)
        lost = held.forget(key, "is gone" if gone else str(error))
        file = lost.segment.path.name
        self.scans[table].look_again(key.writer, lost.first, lost.last, file)
        self._look_around()
        self._found_between |= self._look(table) | self._look_at_reduced()
        if gone and (key in held or self._is_explained(table, key.writer, lost)):
            held.lost.pop(file, None)

    def _is_explained(self, table: str, writer: Writer, lost: SealedBatches) -> bool:
        """Whether all that a segment held is in others, or was reduced."""
        left = lost.seqs[~self.batches[table].numbers(writer).holds(lost.seqs)]
        reduced = dict(self.reduced.batches(self.commits, table)) if table in COMMITTED else {}
        return not len(left) or bool(np.isin(left, reduced.get(writer, left[:0])).all())

    def _read_writers(self) -> bool:
        new = False
        try:
            names = sorted(self.store.names(WRITERS))
            self.unfetched.pop(WRITERS, None)
        except RunUnavailableError as error:
            self.unfetched[WRITERS] = str(error)
            return new
        for path in (self.store.root / WRITERS / name for name in names):
            stamp = self.store.stamp(path)
            writer = parse_writer(path)
            if writer is None or (stamp is not None and self._stamps.get(path) == stamp):
                continue
            file = f"{WRITERS}/{path.name}"
            self.unfetched.pop(file, None)
            try:
                content = json.loads(self.store.read_text(path))
                start = content.get("start_step")
                start = None if start is None else int(start)
            except (RunUnavailableError, OSError) as error:
                self.unfetched[file] = str(error)
                continue
            except (ValueError, TypeError, AttributeError) as error:
                self.unusable_writers[file] = f"cannot be read: {error}"
                continue
            self._stamps[path] = stamp
            self.unusable_writers.pop(file, None)
            if content != self.writers.get(writer):
                self.writers[writer] = content
                new = True
                if start is not None:
                    self.commits.declare_start(writer.attempt, start)
        return new


def _merged(parts: Mapping[int, list[IntArray]]) -> dict[int, IntArray]:
    """Of each attempt the steps in any part, ascending."""
    return {attempt: distinct(np.concatenate(steps)) for attempt, steps in parts.items()}


def _age(key: Key) -> tuple[int, int, int]:
    """Order of what writers wrote: attempt, rank, number."""
    return key.writer.attempt, key.writer.rank, key.seq
