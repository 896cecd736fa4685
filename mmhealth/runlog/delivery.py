"""Between training loop and disk: numbers batches, hands them over, waits a while."""

import os
import threading
from collections.abc import Mapping

import pyarrow as pa

from mmhealth.errors import RecordError
from mmhealth.runlog.background import Background, Job
from mmhealth.runlog.losses import Losses, LossKind
from mmhealth.runlog.writer import Batch, RunWriter
from mmhealth.schema import TABLES, Table

_MOST_WAITING = 64


class Delivery:
    """Delivers batches in the order of their numbers and counts what cannot be delivered.

    Whoever numbers batches and submits them holds `lock` meanwhile.
    """

    def __init__(
        self,
        writer: RunWriter,
        losses: Losses,
        *,
        time_budget: float,
        strict: bool,
        next_seq: Mapping[str, int] | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self._writer = writer
        self._losses = losses
        self._time_budget = min(time_budget, threading.TIMEOUT_MAX)
        self._strict = strict
        self._pid = os.getpid()
        self._seq = dict.fromkeys(TABLES, 0) | dict(next_seq or {})
        self._late: Job | None = None
        self._background = Background("mmhealth-write", limit=_MOST_WAITING)

    def in_other_process(self) -> bool:
        """Whether this process was forked off the one that opened the run."""
        return os.getpid() != self._pid

    def next_seq(self, table: Table) -> int:
        """The next sequence number of a table."""
        self._seq[table.name] += 1
        return self._seq[table.name] - 1

    def submit(self, batches: list[Batch], step: int, *, commits: bool) -> Job | None:
        """Hand batches over to be written; None when that is not possible, which is counted."""
        if self.in_other_process():
            self.lose("forked", "a forked child process uses its parent's recorder", step)
            return None

        def work() -> None:
            try:
                self._writer.write(batches, step if commits else None)
            except (OSError, pa.ArrowException) as error:
                self._losses.add("write", f"{type(error).__name__}: {error}", step)
                raise

        job = self._background.submit(work)
        if job is None:
            self.lose("queue_full", f"{_MOST_WAITING} writes are waiting for the disk", step)
        return job

    def is_behind(self) -> bool:
        """Whether so much waits that even those who need not wait should."""
        return self._background.waiting() >= _MOST_WAITING // 4

    def wait(self, job: Job, step: int) -> bool:
        """Wait for a write as long as the time budget allows; False when it has failed."""
        behind = self._late is not None and not self._late.wait(0)
        if behind or not job.wait(self._time_budget):
            self._late = job
            self.lose("over_budget", f"a write took over {self._time_budget} s", step)
        elif job.error is not None:
            if self._strict:
                raise RecordError(str(job.error)) from job.error
            return False
        return True

    def lose(self, kind: LossKind, why: str, step: int | None) -> None:
        """Count a loss and have it published; strict: raise."""
        if self._strict:
            raise RecordError(f"step {step}: {why}")
        self._losses.add(kind, why, step)
        if not self.in_other_process():
            self._background.submit(self._writer.publish)

    def close(self, timeout: float) -> None:
        """Finish what waits, seal, and leave the final counts."""
        if self._background.stop(timeout):
            self._writer.close(timeout)
            return
        for _ in range(max(self._background.waiting(), 1)):
            self._losses.add("write", f"a write did not end within {timeout:g} s of closing")
