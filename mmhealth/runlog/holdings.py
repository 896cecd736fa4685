"""Everything that has been found in a run directory so far, and where it is."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl

from mmhealth.errors import ObjectStoreError
from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commits import COMMIT_COLUMNS, Commit, Commits, StepKey, commits_of
from mmhealth.runlog.layout import WRITERS, Writer, parse_writer
from mmhealth.runlog.scan import Key, TableScan
from mmhealth.runlog.stepdata import stack, to_frame
from mmhealth.runlog.store import Store
from mmhealth.schema import TABLES

_LISTING = "listing"


class Holdings:
    """Batches, commits and writers' files; `refresh` takes in what is new."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scans = {table: TableScan(store, table) for table in TABLES}
        self.batches = {table: Batches() for table in TABLES}
        self.commits = Commits()
        self.writers: dict[Writer, dict[str, Any]] = {}
        """Content of each writer's own file."""
        self.unusable_writers: dict[str, str] = {}
        """Writers' files that cannot be read, with the reason."""
        self.changed: set[StepKey] = set()
        """Steps whose data changed since somebody cleared this."""
        self.unfetched: dict[str, str] = {}
        """What the store did not give at the last look, with the reason."""
        self._waiting: dict[str, list[Key]] = {}
        """By table, batches that are yet to be taken in, for they could not be fetched."""
        self._stamps: dict[Path, Any] = {}
        self._found_between = False
        self._awaited: dict[str, dict[Key, StepKey]] = {"trajectories": {}, "updates": {}}
        """Batches that a commit speaks of and that are not there yet, with its step."""
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
    ) -> pl.DataFrame | None:
        """The rows that a commit speaks of; None where it speaks of none, or they are not there.

        All columns or those named; of the table ``steps``, which is the commit itself, all.
        """
        batch = commit.key(table)
        wanted = None if table == "steps" else columns
        return None if batch is None else self._read(table, batch, wanted)

    def is_complete(self, key: StepKey) -> bool:
        """Whether all expected ranks have committed a step, and all their rows are there."""
        commits = self.commits.by_step[key]
        return len(commits) >= self.commits.ranks_expected(key) and all(
            batch is None or batch in self.batches[table]
            for table in ("trajectories", "updates")
            for batch in (commit.key(table) for commit in commits.values())
        )

    def _take_in(self, table: str, key: Key) -> None:
        """Take in a batch that was not there before."""
        if table == "steps":
            self._take_in_commits(key)
        elif table in ("trajectories", "updates"):
            if (owner := self._awaited[table].pop(key, None)) is not None:
                self.changed.add(owner)
        elif table == "amendments":
            self._take_in_late(key)

    def _take_in_commits(self, key: Key) -> None:
        rows = self._read("steps", key, COMMIT_COLUMNS)
        if rows is None:
            return
        for commit in commits_of(key.writer, key.seq, rows):
            step = self.commits.add(commit)
            self.changed.add(step)
            for name, awaited in self._awaited.items():
                batch = commit.key(name)
                if batch is not None and batch not in self.batches[name]:
                    awaited[batch] = step

    def _take_in_late(self, key: Key) -> None:
        rows = self._read("amendments", key)
        if rows is None:
            return
        frame = to_frame([(rows, key.writer)])
        late = {step: part for (step,), part in frame.partition_by("step", as_dict=True).items()}
        for step, part in late.items():
            self._late.setdefault(step, []).append((key, part))
        self.changed |= {step for step in self.commits.by_step if step.step in late}

    def _look(self, table: str) -> bool:
        """Find what is new in a table, and what has moved; say whether anything is new."""
        new = False
        held, waiting = self.batches[table], self._waiting.pop(table, [])
        self.unfetched.pop(table, None)
        for found in self.scans[table].poll():
            unknown = found.new
            if held.lost:
                unknown = [seq for seq in found.seqs if Key(found.writer, seq) not in held]
            held.put(found)
            waiting += [Key(found.writer, seq) for seq in unknown]
        for number, key in enumerate(waiting):
            new = True
            try:
                self._take_in(table, key)
            except ObjectStoreError as error:
                self._waiting.setdefault(table, []).extend(waiting[number:])
                self.unfetched[table] = str(error)
                break
        return new

    def _look_around(self) -> None:
        """See which files there are; where that fails, what was seen before still stands."""
        try:
            self.store.look()
            self.unfetched.pop(_LISTING, None)
        except ObjectStoreError as error:
            if not self.store.files(WRITERS):
                raise
            self.unfetched[_LISTING] = str(error)

    def _read(
        self, table: str, key: Key, columns: Collection[str] | None = None
    ) -> pl.DataFrame | None:
        """A batch; None where it is not there. A segment that is gone is looked for in others."""
        held = self.batches[table]
        while key in held:
            try:
                return held.read(key, columns)
            except FileNotFoundError as error:
                self._look_around()
                self._found_between |= self._look(table)
                if key in held and error.filename is not None:
                    held.lost.pop(Path(error.filename).name, None)
        return None

    def _read_writers(self) -> bool:
        new = False
        for path in self.store.files(WRITERS):
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
            except ObjectStoreError as error:
                self.unfetched[file] = str(error)
                continue
            except (OSError, ValueError, TypeError, AttributeError) as error:
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


def _age(key: Key) -> tuple[int, int, int]:
    """Order of what writers wrote: attempt, rank, number."""
    return key.writer.attempt, key.writer.rank, key.seq
