"""A run as its readers see it."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl

from mmhealth.errors import (
    RunError,
    RunNotFoundError,
    RunUnavailableError,
    SchemaVersionError,
)
from mmhealth.place import RunPlace, RunUrl, run_place
from mmhealth.runlog.amendments import (
    AMENDED_KEYS,
    amend,
    empty_amendments,
    late_columns,
    owned,
    usable_amendments,
)
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.holdings import Holdings
from mmhealth.runlog.intervals import BoolArray, IntArray, distinct
from mmhealth.runlog.layout import RUN_FILE, Writer
from mmhealth.runlog.readahead import read_ahead
from mmhealth.runlog.reduced import ReducedStep, Summary
from mmhealth.runlog.remote import RemoteStore
from mmhealth.runlog.source import StepSource
from mmhealth.runlog.status import RunStatus
from mmhealth.runlog.stepdata import StepData, build_step, stack
from mmhealth.runlog.storage import ObjectStore, Requests
from mmhealth.runlog.store import FolderStore, Store
from mmhealth.runlog.survey import survey, unfetched
from mmhealth.schema import SCHEMA_VERSION, TABLES


@dataclass(frozen=True, slots=True)
class Tail:
    """What changed since the last look."""

    keys: list[StepKey]
    """Steps that can be judged and are new or changed, as (attempt, step) lived them."""
    starts: dict[int, int]
    """Start step of each attempt: where it hides older rows."""
    build: Callable[[StepKey, Collection[str] | None], StepData]
    """Reads a step: all columns of its rows, or those named that are there."""
    source: Callable[[StepKey], StepSource]
    """What a step is read from, for another process."""
    again: set[StepKey] = field(default_factory=set)
    """Where steps go that could not be read: the next tail has them once more."""
    summary: Callable[[StepKey], Summary | None] = lambda _: None
    """Of a reduced step what was measured, as JSON."""
    is_far: bool = False
    """Whether reading mostly waits; see `Store.is_far`."""

    def __iter__(self) -> Iterator[StepData]:
        """The steps with all their columns, as `read` brings them."""
        return self.read()

    def read(self, columns: Collection[str] | None = None) -> Iterator[StepData]:
        """The steps, a few read ahead where reading waits: no more need be held in memory.

        The run is not to be used until they are all there.
        """

        def step(key: StepKey) -> StepData:
            return self.build(key, columns)

        return read_ahead(step, self.keys) if self.is_far else map(step, self.keys)

    @property
    def steps(self) -> list[StepData]:
        """All of them at once."""
        return list(self)


def open_run(path: str | os.PathLike[str] | RunUrl) -> "Run":
    """Open a run for reading: a run directory, or a prefix of an object store (``s3://...``).

    Raises RunNotFoundError, SchemaVersionError, ObjectStoreError, or RunError when ``run.json``
    cannot be read. Damaged segments do not raise: see `Run.status`.
    """
    run = Run(run_place(path))
    run.refresh()
    return run


class Run:
    """Reads a run, finished or growing. Only committed, visible rows are shown.

    `refresh` looks for new data; `tail` does so too and returns the steps that changed. Each frame
    is ordered by step, then rank, then as logged. Not thread-safe.
    """

    def __init__(self, path: RunPlace) -> None:
        self.path = path
        store: Store
        self.requests: Requests | None = None
        """What was asked of the object store so far; None for a run directory."""
        if isinstance(path, RunUrl):
            objects = ObjectStore(path)
            store, self.requests = RemoteStore(objects), objects.requests
        else:
            store = FolderStore(path)
        self.about = _read_run_file(store)
        self._held = Holdings(store)
        self._undecided: set[StepKey] = set()
        """Steps that changed, and are neither complete nor overdue."""
        self._again: set[StepKey] = set()

    @property
    def id(self) -> str:
        """Identity of the run, whatever its directory is called."""
        return str(self.about["run_id"])

    @property
    def name(self) -> str:
        """Name of the run's directory when it was recorded."""
        return str(self.about.get("name") or self.path.name)

    @property
    def config(self) -> dict[str, Any]:
        """What the trainer said about itself."""
        return dict(self.about.get("config") or {})

    @property
    def loss_ratio(self) -> str:
        """Level of the loss's importance ratio: token, sequence, geometric or none."""
        return str(self.about.get("loss_ratio", "sequence"))

    def refresh(self) -> bool:
        """Read what is new; say whether there was anything."""
        new = self._held.refresh()
        if new:
            for name in TABLES:
                self.__dict__.pop(name, None)
        return new

    def tail(self) -> Tail:
        """Refresh, and tell every step that is new or changed since the last call.

        A step is returned when it is complete, or when the run has gone on for `PARTIAL_AFTER`
        steps without it; and again whenever its data change.
        """
        self.refresh()
        changed = self._held.take_changed()
        more: dict[int, list[int]] = defaultdict(list)
        for key in self._undecided | self._again:
            more[key.attempt].append(key.step)
        for attempt, some in more.items():
            known = changed.get(attempt, np.empty(0, np.int64))
            changed[attempt] = distinct(np.append(known, np.array(some, np.int64)))
        self._undecided, ready = set(), []
        self._again.clear()
        for attempt, steps in sorted(changed.items()):
            due = self._are_due(attempt, steps)
            ready += [StepKey(attempt, step) for step in steps[due].tolist()]
            self._undecided |= {StepKey(attempt, step) for step in steps[~due].tolist()}
        return Tail(
            ready,
            self._held.commits.starts,
            self._build,
            self._source,
            self._again,
            self._held.reduced.summary,
            self._held.store.is_far,
        )

    def step_data(self, step: int) -> StepData | None:
        """Everything about one visible step; None when there is none."""
        key = self._held.commits.standing(step)
        return None if key is None else self._build(key)

    def require_step(self, step: int) -> StepData:
        """Everything about one visible step. Raises RunError, with the steps there are."""
        data = self.step_data(step)
        if data is None:
            steps = [key.step for key in self._held.commits.visible()]
            have = f"steps {steps[0]} to {steps[-1]}" if steps else "none"
            raise RunError(f"{self.path} has no step {step}: it has {have}")
        return data

    def complete_steps(self) -> list[int]:
        """Visible steps of which all rows of every rank are there, in order; no reduced ones."""
        found: list[int] = []
        for attempt, steps in self._held.commits.visible_steps().items():
            unreduced = steps[~np.isin(steps, self._held.reduced.of(attempt))]
            for counts in self._held.counts(attempt, unreduced):
                found += counts.steps[counts.whole].tolist()
        return found

    def reduced_steps(self) -> list[ReducedStep]:
        """Visible steps whose rows a summary stands for, in order."""
        reduced = self._held.reduced.steps
        return [reduced[key] for key in self._held.commits.visible() if key in reduced]

    def due_steps(self) -> Iterator[tuple[StepKey, bool]]:
        """Steps that can be judged, as attempts lived them, each with whether it is complete: those
        that `tail` names, hidden ones among them; by attempt, in order."""
        for attempt, table in self._held.commits.tables.items():
            complete = self._held.are_complete(attempt, table.steps)
            due = complete | self._held.commits.are_overdue(attempt, table.steps)
            for step, whole in zip(table.steps[due].tolist(), complete[due].tolist(), strict=True):
                yield StepKey(attempt, step), whole

    def lived_step(self, key: StepKey, columns: Collection[str] | None = None) -> StepData:
        """A step of `due_steps`: all columns of its rows, or those named that are there."""
        return self._build(key, columns)

    def committed(self, key: StepKey) -> float | None:
        """When the last rank committed a step, seconds since 1970; None where none says."""
        times = [commit.time for commit in self._held.commits.of(key).values()]
        return max((time for time in times if time is not None), default=None)

    def is_reduced(self, key: StepKey) -> bool:
        """Whether a summary stands for the rows of a step."""
        return key in self._held.reduced.steps

    def summary_of(self, key: StepKey, column: str) -> str | None:
        """The ``metrics`` or ``sketches`` of a reduced step, as JSON; None of any other."""
        return self._held.reduced.text(key, column)

    def first_lived(self, column: str) -> tuple[int, int] | None:
        """Attempt and step, the first in the order lived, whose updates have a value in a column.

        A step that a later attempt hides was lived too; one that `tail` holds back is not there.
        """
        for key in self._held.commits.lived():
            if self._logged(key, column) and self._are_due(key.attempt, np.array([key.step])).all():
                return key
        return None

    def is_visible(self, attempt: int, step: int) -> bool:
        """Whether no later attempt hides this step."""
        return self._held.commits.is_visible(attempt, step)

    def reduced_batches(self, table: str) -> dict[Writer, IntArray]:
        """Batches of a table that summaries stand for, whether or not they are there: by writer
        their numbers, ascending."""
        return dict(self._held.reduced.batches(self._held.commits, table))

    def late_values(self, key: StepKey) -> pl.DataFrame:
        """Late values for a step as its attempt lived it."""
        late = self._late(key.step)
        return late if late.is_empty() else late.filter(attempt=key.attempt)

    def schema(self, table: str) -> pl.Schema:
        """Columns of a table and their types over the whole run; no rows are read.

        With ``rank`` and ``attempt``, and those that only late values or hidden rows have.
        """
        shared = {id(schema): schema for schema in self._held.batches[table].schemas()}
        logged = dict.fromkeys(shared.values())
        frames = [pl.DataFrame(schema=pl.Schema(schema)) for schema in logged]
        if table == "trajectories" and frames:
            frames.append(late_columns(self.amendments))
        if frames:
            frames.append(pl.DataFrame(schema=dict.fromkeys(("rank", "attempt"), pl.Int64)))
        return stack(frames).schema

    def read(self, table: str, columns: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
        """Rows of a table, one visible step after the other: no more need be held in memory.

        All columns or those named that are there, beside ``step``, ``rank`` and ``attempt``; late
        values of trajectories are filled in. The run is not to be used until they are all there.
        """

        def rows(key: StepKey) -> pl.DataFrame:
            late = self._late(key.step) if table == "trajectories" else pl.DataFrame()
            keys = ("step",) if late.is_empty() else AMENDED_KEYS
            wanted = None if columns is None else {*keys, *columns}
            return amend(self._held.committed_frame(table, [key], wanted), late)

        steps = self._held.commits.visible()
        parts = read_ahead(rows, steps) if self._held.store.is_far else map(rows, steps)
        return (part for part in parts if part.width)

    @cached_property
    def trajectories(self) -> pl.DataFrame:
        """Sampled and injected trajectories, late values filled in."""
        sampled = self._committed("trajectories")
        return amend(sampled, owned(self._held.frame("amendments"), self._held.commits))

    @cached_property
    def updates(self) -> pl.DataFrame:
        """How trajectories were used."""
        return self._committed("updates")

    @cached_property
    def steps(self) -> pl.DataFrame:
        """One row a step and rank: the commits with their scalars."""
        return self._committed("steps")

    @cached_property
    def evaluations(self) -> pl.DataFrame:
        """Held-out evaluations."""
        return self._loose_frame("evaluations")

    @cached_property
    def amendments(self) -> pl.DataFrame:
        """Values that arrived late."""
        frame = self._loose_frame("amendments")
        return empty_amendments() if frame.is_empty() else usable_amendments(frame)

    @cached_property
    def events(self) -> pl.DataFrame:
        """What happened beside training."""
        return self._loose_frame("events")

    @property
    def closed(self) -> bool:
        """Whether every recorder of the latest attempt has been closed: nothing more will come."""
        if self._held.unusable_writers or self._held.unfetched:
            return False
        latest = max((writer.attempt for writer in self._held.writers), default=None)
        last = [w for writer, w in self._held.writers.items() if writer.attempt == latest]
        return bool(last) and all(about.get("closed") for about in last)

    def require_whole(self) -> None:
        """Raises RunUnavailableError where the last look could not read something that is there:
        what depends on all of a run, for good, is to wait.
        """
        if files := unfetched(self._held):
            raise RunUnavailableError(f"{files[0].file}: {files[0].reason}")

    def status(self) -> RunStatus:
        """What is complete, pending, quarantined and lost, and why."""
        return survey(self._held)

    def _build(self, key: StepKey, columns: Collection[str] | None = None) -> StepData:
        summary = self._held.reduced.summary(key)
        data = build_step(
            key,
            self._held.commits.of(key),
            partial(self._held.rows_of, columns=columns),
            self._late(key.step),
            ranks_expected=self._held.commits.ranks_expected(key),
            summary=summary,
        )
        if summary is None and key in self._held.reduced.steps:
            return self._build(key, columns)  # It was reduced while it was read.
        return data

    def _logged(self, key: StepKey, column: str) -> bool:
        """Whether the updates of a step have, or had, a value in a column."""
        if (reduced := self._held.reduced.steps.get(key)) is not None:
            return f"updates.{column}" in reduced.logged
        commits = self._held.commits.of(key).values()
        rows = (self._held.rows_of("updates", commit, [column]) for commit in commits)
        return any(_has_values(part, column) for part in rows)

    def _source(self, key: StepKey) -> StepSource:
        commits = self._held.commits.of(key)
        named = (
            (table, commit.key(table))
            for table in ("steps", "trajectories", "updates")
            for commit in commits.values()
        )
        found = ((t, batch, self._held.batches[t].place(batch)) for t, batch in named if batch)
        return StepSource(
            key,
            commits,
            {(table, batch): place for table, batch, place in found if place is not None},
            self._late(key.step),
            self._held.commits.ranks_expected(key),
            self._held.reduced.summary(key),
        )

    def _late(self, step: int) -> pl.DataFrame:
        late = self._held.late_frame(step)
        return late if late.is_empty() else owned(late, self._held.commits)

    def _are_due(self, attempt: int, steps: IntArray) -> BoolArray:
        overdue = self._held.commits.are_overdue(attempt, steps)
        return overdue | self._held.are_complete(attempt, steps)

    def _committed(self, table: str) -> pl.DataFrame:
        return self._held.committed_frame(table, self._held.commits.visible())

    def _loose_frame(self, table: str) -> pl.DataFrame:
        frame = self._held.frame(table)
        if frame.is_empty():
            return frame
        for attempt, start in self._held.commits.starts.items():
            frame = frame.filter((pl.col("attempt") >= attempt) | (pl.col("step") < start))
        return frame.sort("step", maintain_order=True)


def _has_values(rows: pl.DataFrame | None, column: str) -> bool:
    if rows is None or column not in rows.columns:
        return False
    return rows[column].null_count() < len(rows)


def _read_run_file(store: Store) -> dict[str, Any]:
    path = store.place
    try:
        about = json.loads(store.read_text(store.root / RUN_FILE))
        version = int(about["schema_version"])
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(
            f"{path} is not a run directory: it has no {RUN_FILE}. A Recorder makes one; "
            "`mmhealth import` makes one from other trainers' files"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}/{RUN_FILE} cannot be read: {error}") from error
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path}/{RUN_FILE} has schema version {version}, this mmhealth reads up to "
            f"{SCHEMA_VERSION}: upgrade mmhealth"
        )
    return dict(about)
