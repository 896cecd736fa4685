"""A run as its readers see it."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from mmhealth.errors import RunError, RunNotFoundError, SchemaVersionError
from mmhealth.runlog.commits import Commit, Commits, StepKey
from mmhealth.runlog.layout import RUN_FILE, Writer, list_writers, writer_path
from mmhealth.runlog.scan import Key, Quarantined, TableScan
from mmhealth.runlog.status import Attempt, IncompleteStep, RunStatus, WriterLoss
from mmhealth.runlog.stepdata import (
    StepData,
    amend,
    build_step,
    empty_amendments,
    to_frame,
    with_writer,
)
from mmhealth.schema import SCHEMA_VERSION, TABLES


@dataclass(frozen=True, slots=True)
class Tail:
    """What changed since the last look."""

    steps: list[StepData]
    """Steps that can be judged and are new or changed, as (attempt, step) lived them."""
    starts: dict[int, int]
    """Start step of each attempt: where it hides older rows."""


def open_run(path: str | os.PathLike[str]) -> "Run":
    """Open a run directory for reading.

    Raises RunNotFoundError, SchemaVersionError, or RunError when ``run.json`` cannot be read.
    Damaged segments do not raise: see `Run.status`.
    """
    run = Run(Path(path))
    run.refresh()
    return run


class Run:
    """Reads a run directory, finished or growing. Only committed, visible rows are shown.

    `refresh` looks for new data; `tail` does so too and returns the steps that changed. Each frame
    is ordered by step, then rank, then as logged. Not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = _read_run_file(path)
        self._scans = {table: TableScan(path / table) for table in TABLES}
        self._batches: dict[str, dict[Key, pa.Table]] = {table: {} for table in TABLES}
        self._commits = Commits()
        self._writers: dict[Writer, dict[str, Any]] = {}
        self._changed: set[StepKey] = set()
        self._undecided: set[StepKey] = set()
        self._owners: dict[tuple[str, Key], StepKey] = {}

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
        new = self._read_writers()
        for table in ("steps", *(name for name in TABLES if name != "steps")):
            for key, rows in self._scans[table].poll():
                new = True
                self._batches[table][key] = rows
                self._take_in(table, key, rows)
        if new:
            for name in ("trajectories", "updates", "steps", "evaluations", "amendments", "events"):
                self.__dict__.pop(name, None)
        return new

    def tail(self) -> Tail:
        """Refresh, and return every step that is new or changed since the last call.

        A step is returned when it is complete, or when the run has gone on for `PARTIAL_AFTER`
        steps without it; and again whenever its data change.
        """
        self.refresh()
        ready = []
        for key in sorted(self._changed | self._undecided):
            data = self._build(key)
            if data.complete or self._commits.is_overdue(key):
                ready.append(data)
                self._undecided.discard(key)
            else:
                self._undecided.add(key)
        self._changed.clear()
        return Tail(ready, self._commits.starts)

    def step_data(self, step: int) -> StepData | None:
        """Everything about one visible step; None when there is none."""
        keys = [key for key in self._commits.visible() if key.step == step]
        return self._build(keys[-1]) if keys else None

    def is_visible(self, attempt: int, step: int) -> bool:
        """Whether no later attempt hides this step."""
        return self._commits.is_visible(attempt, step)

    @cached_property
    def trajectories(self) -> pl.DataFrame:
        """Sampled and injected trajectories, late values filled in."""
        return amend(self._committed_frame("trajectories"), self.amendments)

    @cached_property
    def updates(self) -> pl.DataFrame:
        """How trajectories were used."""
        return self._committed_frame("updates")

    @cached_property
    def steps(self) -> pl.DataFrame:
        """One row a step and rank: the commits with their scalars."""
        rows = [
            {**commit.row, "rank": rank, "attempt": key.attempt}
            for key in self._commits.visible()
            for rank, commit in sorted(self._commits.by_step[key].items())
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
        return empty_amendments() if frame.is_empty() else frame

    @cached_property
    def events(self) -> pl.DataFrame:
        """What happened beside training."""
        return self._loose_frame("events")

    def status(self) -> RunStatus:
        """What is complete, pending, quarantined and lost, and why."""
        status = RunStatus(attempts=self._attempts(), losses=self._losses())
        spoken_for: set[tuple[str, Key]] = set()
        for key in self._commits.by_step:
            self._count_step(key, status, spoken_for)
        status.incomplete.sort(key=lambda item: item.step)
        status.rows_pending = sum(
            rows.num_rows
            for table in ("trajectories", "updates")
            for batch, rows in self._batches[table].items()
            if (table, batch) not in spoken_for
        )
        if visible := self._commits.visible():
            last = self._commits.by_step[visible[-1]].values()
            status.last_step = visible[-1].step
            status.last_commit = max((c.row.get("time") or 0.0 for c in last), default=None)
        for table, scan in self._scans.items():
            for file, reason in sorted(scan.quarantined.items()):
                status.quarantined.append(Quarantined(f"{table}/{file}", reason))
            status.batches_missing += sum(count for _, count in scan.gaps())
        return status

    def _count_step(
        self, key: StepKey, status: RunStatus, spoken_for: set[tuple[str, Key]]
    ) -> None:
        commits = self._commits.by_step[key]
        present = missing = read = 0
        for table, commit in product(("trajectories", "updates"), commits.values()):
            if (batch := commit.key(table)) is None:
                continue
            spoken_for.add((table, batch))
            rows = commit.rows(table)
            found = batch in self._batches[table]
            missing += 0 if found else rows
            if table == "trajectories":
                present += rows
                read += rows if found else 0
        if not self.is_visible(key.attempt, key.step):
            status.rows_hidden += present
            return
        status.rows_present += present
        status.rows_read += read
        ranks_missing = max(self._commits.ranks_expected(key) - len(commits), 0)
        if ranks_missing or missing:
            status.incomplete.append(IncompleteStep(key.step, key.attempt, ranks_missing, missing))
        else:
            status.steps_complete += 1

    def _take_in(self, table: str, key: Key, rows: pa.Table) -> None:
        if table == "steps":
            for row in rows.to_pylist():
                commit = Commit(key.writer, row["step"], row)
                step = self._commits.add(commit)
                self._changed.add(step)
                for name in ("trajectories", "updates"):
                    if (batch := commit.key(name)) is not None:
                        self._owners[(name, batch)] = step
        elif table in ("trajectories", "updates"):
            if step_key := self._owners.get((table, key)):
                self._changed.add(step_key)
        elif table == "amendments":
            late = set(rows["step"].to_pylist())
            self._changed |= {step for step in self._commits.by_step if step.step in late}

    def _build(self, key: StepKey) -> StepData:
        amendments = self.amendments
        return build_step(
            key,
            self._commits.by_step[key],
            self._batches,
            amendments.filter(pl.col("step") == key.step) if len(amendments) else amendments,
            ranks_expected=self._commits.ranks_expected(key),
        )

    def _committed_frame(self, table: str) -> pl.DataFrame:
        parts = [
            with_writer(self._batches[table][batch], commit.writer)
            for key in self._commits.visible()
            for _, commit in sorted(self._commits.by_step[key].items())
            if (batch := commit.key(table)) in self._batches[table] and batch is not None
        ]
        return to_frame(parts)

    def _loose_frame(self, table: str) -> pl.DataFrame:
        batches = sorted(
            self._batches[table].items(),
            key=lambda item: (item[0].writer.attempt, item[0].writer.rank, item[0].seq),
        )
        frame = to_frame([with_writer(rows, key.writer) for key, rows in batches])
        if frame.is_empty():
            return frame
        for attempt, start in self._commits.starts.items():
            frame = frame.filter((pl.col("attempt") >= attempt) | (pl.col("step") < start))
        return frame.sort("step", maintain_order=True)

    def _read_writers(self) -> bool:
        new = False
        for writer in list_writers(self.path):
            try:
                content = json.loads(writer_path(self.path, writer).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if content != self._writers.get(writer):
                self._writers[writer] = content
                new = True
                if content.get("start_step") is not None:
                    self._commits.declare_start(writer.attempt, int(content["start_step"]))
        return new

    def _attempts(self) -> list[Attempt]:
        ranks: dict[int, list[int]] = {}
        for writer in self._writers:
            ranks.setdefault(writer.attempt, []).append(writer.rank)
        starts = self._commits.starts
        return [Attempt(a, starts[a], tuple(sorted(ranks.get(a, [])))) for a in starts]

    def _losses(self) -> list[WriterLoss]:
        return [
            WriterLoss(
                writer.rank,
                writer.attempt,
                loss["kind"],
                int(loss["count"]),
                loss["first"],
                loss.get("way_out", ""),
            )
            for writer, content in sorted(self._writers.items())
            for loss in content.get("losses", [])
        ]


def _read_run_file(path: Path) -> dict[str, Any]:
    file = path / RUN_FILE
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        version = int(about["schema_version"])
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(
            f"{path} is not a run directory: it has no {RUN_FILE}. A Recorder makes one; "
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
