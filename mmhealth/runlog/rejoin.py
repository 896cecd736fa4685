"""Going on as a writer whose process died: the same rank in the same attempt.

A new attempt would hide the steps of all other ranks. So whoever takes the place of one rank goes
on with its sequence numbers, behind all that the dead process wrote: what was committed stands, no
number is given twice, and none is left out. Two processes must never do so at a time: the one that
is at work holds a lock, which ends with it, however it dies.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.errors import RecordError, RunUnavailableError
from mmhealth.runlog.layout import (
    OpenTail,
    Sealed,
    Writer,
    list_folder,
    list_tails,
    lock_path,
    parse_segment,
    writer_path,
)
from mmhealth.runlog.lock import try_lock
from mmhealth.runlog.pieces import find_batches
from mmhealth.runlog.segment import described_batches
from mmhealth.runlog.store import DamagedSegmentError, FolderStore
from mmhealth.runlog.tail import TailPosition, read_tail
from mmhealth.schema import TABLES

_PATIENCE_S = 10.0
"""How long a process may take to die."""
_COMMITTED = ("trajectories", "updates")


@dataclass(slots=True)
class Left:
    """What a writer left to the one that goes on for it."""

    rows: dict[str, dict[int, int]] = field(default_factory=lambda: {t: {} for t in TABLES})
    """Rows of each batch that can be read, by table and sequence number."""
    next_seq: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    """The first number that nobody has used."""
    steps: set[int] = field(default_factory=set)
    """Committed."""
    about: dict[str, Any] = field(default_factory=dict)
    """Content of the writer's file; empty where that cannot be read."""

    @property
    def carried_on(self) -> dict[str, Any]:
        """What the writer's file goes on to say."""
        started = {"start_step": self.about["start_step"]} if "start_step" in self.about else {}
        before = self.about.get("rejoined", 0)
        return started | {"rejoined": before + 1 if isinstance(before, int) else 1}

    def use(self, table: str, seq: int) -> None:
        """This number is taken."""
        self.next_seq[table] = max(self.next_seq[table], seq + 1)


def hold_writer(run_dir: Path, writer: Writer) -> int:
    """Lock a writer for as long as the descriptor that this returns is open.

    Waits a while for a process that is dying. Where the file system knows no locks nothing is held.
    Raises RecordError where another process goes on living.
    """
    descriptor = os.open(lock_path(run_dir, writer), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    end = time.monotonic() + _PATIENCE_S
    while try_lock(descriptor) is False or _is_at_work(run_dir, writer):
        if time.monotonic() > end:
            os.close(descriptor)
            raise RecordError(
                f"rank {writer.rank} of attempt {writer.attempt} is being recorded by another "
                f"process in {run_dir}: give each process a rank of its own"
            )
        time.sleep(0.05)
    return descriptor


def read_left(run_dir: Path, writer: Writer) -> Left:
    """Everything that a dead writer got onto the disk; raises OSError."""
    left = Left(about=_read_about(writer_path(run_dir, writer)))
    for table in TABLES:
        for _ in range(10):
            if _read_table(run_dir / table, writer, left):
                break
    return left


def _is_at_work(run_dir: Path, writer: Writer) -> bool:
    """Whether somebody holds a tail of this writer: one that took no lock of the other kind."""
    for tail in list_tails(run_dir):
        if tail.writer != writer:
            continue
        try:
            descriptor = os.open(tail.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if try_lock(descriptor, shared=True) is False:
                return True
        finally:
            os.close(descriptor)
    return False


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _read_table(folder: Path, writer: Writer, left: Left) -> bool:
    """False where a file is gone that was there: it was sealed, or compacted, and what it held is
    in another."""
    whole = True
    for path in list_folder(folder):
        name = parse_segment(path)
        if name is None or name.writer != writer:
            continue
        left.use(folder.name, (name.last if isinstance(name, Sealed) else name.first - 1))
        try:
            _read_segment(folder.name, name, left)
        except FileNotFoundError:
            whole = False
    return whole


def _read_segment(table: str, name: Sealed | OpenTail, left: Left) -> None:
    for seq, rows in _batches(name):
        left.use(table, seq)
        left.rows[table][seq] = rows
    for commit in _commits(name) if table == "steps" else ():
        left.steps.add(commit["step"])
        for named in _COMMITTED:
            if (spoken_of := commit.get(f"{named}_seq")) is not None:
                left.use(named, spoken_of)


def _batches(name: Sealed | OpenTail) -> list[tuple[int, int]]:
    """Number and rows of each batch that is there."""
    if isinstance(name, OpenTail):
        read = read_tail(name.path, TailPosition()).batches
        return [(seq, batch.num_rows) for seq, batch in read]
    try:
        described = described_batches(pq.read_metadata(name.path)).tolist()
        return [(seq, rows) for seq, rows in described]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return []  # Readers name it as damaged; its last number stands in its name.


def _commits(name: Sealed | OpenTail) -> Iterator[dict[str, Any]]:
    wanted = ("step", *(f"{table}_seq" for table in _COMMITTED))
    if isinstance(name, OpenTail):
        for _, batch in read_tail(name.path, TailPosition()).batches:
            yield from batch.select([n for n in wanted if n in batch.schema.names]).to_pylist()
        return
    try:
        found = find_batches(name, FolderStore(name.path.parent.parent))
        names = [n for n in wanted if n in found.segment.schema.names]
        for group in range(found.group_starts.size):
            yield from found.segment.read_frame(group, names).to_dicts()
    except DamagedSegmentError:
        return  # Readers name it as damaged, and its steps are lost.
    except RunUnavailableError as error:
        raise OSError(str(error)) from error
