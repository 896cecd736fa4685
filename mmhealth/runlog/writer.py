"""Writes the batches of one (rank, attempt): tails, their rotation, and the writer's own file.

Everything here runs on the recorder's background threads.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmhealth.errors import RunUnavailableError
from mmhealth.runlog.background import Background
from mmhealth.runlog.columns import unify
from mmhealth.runlog.compaction import compact
from mmhealth.runlog.layout import (
    RUN_FILE,
    WRITERS,
    Writer,
    create_json,
    replace_json,
    sync,
    tail_path,
    writer_path,
)
from mmhealth.runlog.losses import Losses
from mmhealth.runlog.rejoin import Left
from mmhealth.runlog.segment import seal_tail
from mmhealth.runlog.tail import TailWriter
from mmhealth.runlog.upload import Uploader
from mmhealth.schema import STEPS, TABLES

_PUBLISH_EVERY_S = 1.0


@dataclass(slots=True)
class Batch:
    """Rows for one table, with the sequence number that was issued for them."""

    table: str
    seq: int
    columns: dict[str, pa.Array]


@dataclass(slots=True)
class _Counts:
    rows: dict[str, int] = field(default_factory=dict)
    last_seq: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    last_step: int | None = None


class RunWriter:
    """Owns the tails of one writer. Raises OSError; its caller counts."""

    def __init__(
        self,
        run_dir: Path,
        writer: Writer,
        *,
        run: dict[str, Any],
        about: dict[str, Any],
        losses: Losses,
        fsync: bool,
        segment_bytes: int,
        compact_segments: int | None = None,
        left: Left | None = None,
        seal_every: float | None = None,
        uploader: Uploader | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._writer = writer
        self._run = run
        self._about = about
        self._losses = losses
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        self._compact_segments = compact_segments
        self._seal_every = seal_every
        self._uploader = uploader
        self._rotated = time.monotonic()
        self._tails: dict[str, TailWriter] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._counts = _Counts() if left is None else _counts_of(left)
        self._published = 0.0
        self._sealer = Background("mmhealth-seal", limit=1_000)

    def write(self, batches: list[Batch], step: int | None = None) -> None:
        """Append batches in order; ``step`` marks that they commit this step."""
        self._revive_if_removed()
        force = False
        for batch in batches:
            self._append(batch)
        if step is not None:
            self._counts.steps += 1
            self._counts.last_step = step
            if self._seal_every and time.monotonic() - self._rotated > self._seal_every:
                self._rotate_all()
                force = True
        try:
            self.publish(force=force)
        except OSError as error:
            self._losses.add("write", f"the counts of this writer are out of date: {error}", step)

    def publish(self, *, force: bool = False, **more: Any) -> None:
        """Bring the writer's file up to date: when something was lost, or ``force``."""
        now = time.monotonic()
        if not force and not (self._losses.changed and now - self._published > _PUBLISH_EVERY_S):
            return
        self._losses.changed = False
        self._published = now
        content = {
            **self._about,
            "steps": self._counts.steps,
            "last_step": self._counts.last_step,
            "rows": self._counts.rows,
            "last_seq": self._counts.last_seq,
            "losses": self._losses.as_json(),
            **more,
        }
        path = writer_path(self._run_dir, self._writer)
        replace_json(path, content, durable=self._fsync)

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something on the sealing thread."""
        self._sealer.submit(work)

    def close(self, timeout: float) -> None:
        """Seal everything and leave the final counts."""
        self._rotate_all()
        self._sealer.stop(timeout)
        closed = time.time()
        self.publish(force=True, closed=closed)
        if self._uploader is not None and (left := self._uploader.close(timeout)):
            self._losses.add("upload", left)
            self.publish(force=True, closed=closed)

    def _append(self, batch: Batch) -> None:
        table = batch.table
        rows, contradicting = unify(batch.columns, self._schemas.get(table))
        for name in sorted(contradicting):
            before = self._schemas[table].field(name).type
            now = batch.columns[name].type
            self._losses.add("column", f"{table}.{name} was {before} before and is {now} now")
        tail = self._tails.get(table)
        if tail and (not tail.schema.equals(rows.schema) or tail.size > self._segment_bytes):
            self._rotate(table)
            tail = None
        if tail is None:
            folder = self._run_dir / table
            folder.mkdir(parents=True, exist_ok=True)
            path = tail_path(folder, self._writer, batch.seq)
            tail = self._tails[table] = TailWriter(path, rows.schema)
            if self._fsync:
                sync(folder)
            self._schemas[table] = rows.schema
        tail.append(rows, batch.seq, sync=self._fsync)
        self._counts.rows[table] = self._counts.rows.get(table, 0) + rows.num_rows
        self._counts.last_seq[table] = batch.seq

    def _rotate_all(self) -> None:
        """Seal all tails; that of the commits last: what they speak of is sealed before them."""
        self._rotated = time.monotonic()
        for table in sorted(self._tails, key=lambda name: name == STEPS.name):
            self._rotate(table)

    def _rotate(self, table: str) -> None:
        tail = self._tails.pop(table)
        tail.close()
        path = tail.path  # The tail itself, which may wait long for its turn, holds a buffer.

        def seal() -> None:
            try:
                seal_tail(path)
            except OSError as error:
                self._losses.add("write", f"{path.name} stays unsealed: {error}")
                return
            if self._compact_segments:
                # Nothing is lost where it fails: the small segments stay, and the next one tries.
                with contextlib.suppress(OSError, RunUnavailableError):
                    compact(
                        self._run_dir,
                        least=self._compact_segments,
                        wanted=lambda name: name == self._writer,
                        tables=[table],
                    )
            if self._uploader is not None:
                self._uploader.notify()

        self._sealer.submit(seal)

    def _revive_if_removed(self) -> None:
        gone = [tail.removed() for tail in self._tails.values()]
        if not any(gone) and (gone or (self._run_dir / RUN_FILE).exists()):
            return
        self._losses.add("run_removed", f"{self._run_dir} was removed while it was recorded")
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()
        open_run_files(self._run_dir, self._run)
        self.publish(force=True)


def _counts_of(left: Left) -> _Counts:
    """Where a writer stands that goes on for another."""
    return _Counts(
        rows={table: sum(sizes.values()) for table, sizes in left.rows.items() if sizes},
        last_seq={table: seq - 1 for table, seq in left.next_seq.items() if seq},
        steps=len(left.steps),
        last_step=max(left.steps, default=None),
    )


def open_run_files(run_dir: Path, run: dict[str, Any]) -> None:
    """Make the run directory and its run.json where they are missing."""
    (run_dir / WRITERS).mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        (run_dir / table).mkdir(exist_ok=True)
    if not (run_dir / RUN_FILE).exists():
        create_json(run_dir / RUN_FILE, run)


def describe_process() -> dict[str, Any]:
    """Who writes: for people who look into the directory."""
    return {"pid": os.getpid(), "host": os.uname().nodename, "opened": time.time()}
