"""A run as its readers see it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from mmhealth.errors import ObjectStoreError, RunError, RunNotFoundError, SchemaVersionError
from mmhealth.place import PlaceLike, RunPlace, RunUrl, run_place
from mmhealth.runlog.amendments import amend, empty_amendments, owned, usable_amendments
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.holdings import Holdings
from mmhealth.runlog.layout import RUN_FILE
from mmhealth.runlog.status import RunStatus
from mmhealth.runlog.stepdata import StepData, build_step
from mmhealth.runlog.storage import ObjectStore
from mmhealth.runlog.survey import survey
from mmhealth.schema import SCHEMA_VERSION, TABLES


@dataclass(frozen=True, slots=True)
class Tail:
    """What changed since the last look."""

    keys: list[StepKey]
    """Steps that can be judged and are new or changed, as (attempt, step) lived them."""
    starts: dict[int, int]
    """Start step of each attempt: where it hides older rows."""
    build: Callable[[StepKey], StepData]
    again: set[StepKey] = field(default_factory=set)
    """Where steps go that could not be fetched: the next tail has all of this one once more."""

    def __iter__(self) -> Iterator[StepData]:
        """The steps, read one after the other: no more than one need be held in memory.

        Raises ObjectStoreError where rows cannot be fetched.
        """
        for key in self.keys:
            try:
                data = self.build(key)
            except ObjectStoreError:
                self.again.update(self.keys)
                raise
            yield data

    @property
    def steps(self) -> list[StepData]:
        """All of them at once."""
        return list(self)


def open_run(path: PlaceLike) -> "Run":
    """Open a run for reading: a directory, or the URL of one in an object store.

    Raises RunNotFoundError, SchemaVersionError, ObjectStoreError, or RunError when ``run.json``
    cannot be read. Damaged segments do not raise, nor do those that cannot be fetched just now: see
    `Run.status`.
    """
    run = Run(path)
    run.refresh()
    return run


class Run:
    """Reads a run directory, finished or growing. Only committed, visible rows are shown.

    `refresh` looks for new data; `tail` does so too and returns the steps that changed. Each frame
    is ordered by step, then rank, then as logged. Rows of a run in an object store are fetched when
    they are asked for: that raises ObjectStoreError where they cannot be. Not thread-safe.
    """

    def __init__(self, path: PlaceLike) -> None:
        self.path: RunPlace = run_place(path)
        source = ObjectStore(self.path) if isinstance(self.path, RunUrl) else self.path
        self.requests = source.requests if isinstance(source, ObjectStore) else None
        """What was asked of the object store so far; None for a directory."""
        self.about = _read_run_file(source)
        self._held = Holdings(source)
        self._undecided: set[StepKey] = set()

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
        changed = self._held.changed | self._undecided
        ready = sorted(key for key in changed if self._is_due(key))
        self._undecided = changed.difference(ready)
        self._held.changed.clear()
        return Tail(ready, self._held.commits.starts, self._build, self._held.changed)

    def step_data(self, step: int) -> StepData | None:
        """Everything about one visible step; None when there is none."""
        keys = [key for key in self._held.commits.visible() if key.step == step]
        return self._build(keys[-1]) if keys else None

    def require_step(self, step: int) -> StepData:
        """Everything about one visible step. Raises RunError, with the steps there are."""
        data = self.step_data(step)
        if data is None:
            steps = [key.step for key in self._held.commits.visible()]
            have = f"steps {steps[0]} to {steps[-1]}" if steps else "none"
            raise RunError(f"{self.path} has no step {step}: it has {have}")
        return data

    def complete_steps(self) -> list[int]:
        """Visible steps of which all rows of every rank are there, in order."""
        incomplete = {item.step for item in self.status().incomplete}
        steps = (key.step for key in self._held.commits.visible())
        return [step for step in steps if step not in incomplete]

    def first_lived(self, column: str) -> tuple[int, int] | None:
        """Attempt and step, the first in the order lived, whose updates have a value in a column.

        A step that a later attempt hides was lived too; one that `tail` holds back is not there.
        """
        for key in sorted(self._held.commits.by_step):
            commits = self._held.commits.by_step[key].values()
            rows = (self._held.rows_of("updates", commit, [column]) for commit in commits)
            if any(_has_values(table, column) for table in rows) and self._is_due(key):
                return key.attempt, key.step
        return None

    def is_visible(self, attempt: int, step: int) -> bool:
        """Whether no later attempt hides this step."""
        return self._held.commits.is_visible(attempt, step)

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
        rows = [
            {**commit.row, "rank": rank, "attempt": key.attempt}
            for key in self._held.commits.visible()
            for rank, commit in sorted(self._held.commits.by_step[key].items())
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

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

    def status(self) -> RunStatus:
        """What is complete, pending, quarantined and lost, and why."""
        return survey(self._held)

    def _build(self, key: StepKey) -> StepData:
        return build_step(
            key,
            self._held.commits.by_step[key],
            self._held.rows_of,
            owned(self._held.late_frame(key.step), self._held.commits),
            ranks_expected=self._held.commits.ranks_expected(key),
        )

    def _is_due(self, key: StepKey) -> bool:
        return self._held.is_complete(key) or self._held.commits.is_overdue(key)

    def _committed(self, table: str) -> pl.DataFrame:
        return self._held.committed_frame(table, self._held.commits.visible())

    def _loose_frame(self, table: str) -> pl.DataFrame:
        frame = self._held.frame(table)
        if frame.is_empty():
            return frame
        for attempt, start in self._held.commits.starts.items():
            frame = frame.filter((pl.col("attempt") >= attempt) | (pl.col("step") < start))
        return frame.sort("step", maintain_order=True)


def _has_values(table: pa.Table | None, column: str) -> bool:
    if table is None or column not in table.column_names:
        return False
    return bool(table[column].null_count < table.num_rows)


def _read_run_file(source: Path | ObjectStore) -> dict[str, Any]:
    if isinstance(source, ObjectStore):
        what, place = "the URL of a run", str(source.url)
    else:
        what, place = "a run directory", str(source)
    file = f"{place}/{RUN_FILE}"
    try:
        if isinstance(source, ObjectStore):
            about = json.loads(source.read(RUN_FILE))
        else:
            about = json.loads((source / RUN_FILE).read_bytes())
        version = int(about["schema_version"])
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(
            f"{place} is not {what}: it has no {RUN_FILE}. A Recorder makes one; "
            "`mmhealth import` makes one from other trainers' files"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{file} has schema version {version}, this mmhealth reads up to {SCHEMA_VERSION}: "
            "upgrade mmhealth"
        )
    return dict(about)
