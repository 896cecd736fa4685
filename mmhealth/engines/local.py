"""Processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import wait
from types import TracebackType
from typing import Generic, Self

from mmhealth.engines.engine import Progress, Result, Task
from mmhealth.errors import EngineError

_AHEAD = 2
"""Tasks in flight for each worker: one that is worked on and one that waits."""
_DEATHS = 3
"""Times that a pool may break before a task is given up."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class LocalEngine:
    """A pool of processes, begun with the first task and ended by `close`."""

    workers: int = field(default_factory=available_cores)
    _pool: ProcessPoolExecutor | None = field(default=None, repr=False)

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        told: Progress | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map`."""
        source, flight = iter(tasks), deque[_Flight[Task, Result]]()
        done = deaths = 0
        while flight or (first := list(islice(source, 1))):
            wanted = max(self.workers * _AHEAD - len(flight), 0)
            flight.extend(self._start(function, task) for task in (*first, *islice(source, wanted)))
            first = []
            try:
                result = flight[0].future.result()
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > _DEATHS:
                    raise EngineError(
                        f"workers died {deaths} times; the last words: {error}. They may have run "
                        "out of memory: use fewer"
                    ) from error
                self.close()
                for item in flight:
                    item.future = self._submit(function, item.task)
                continue
            flight.popleft()
            done += 1
            if told is not None:
                told(done)
            yield result

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, function: Callable[[Task], Result], task: Task) -> "_Flight[Task, Result]":
        return _Flight(task, self._submit(function, task))

    def _submit(self, function: Callable[[Task], Result], task: Task) -> "Future[Result]":
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_begin_worker
            )
        return self._pool.submit(function, task)


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that is worked for, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@dataclass(slots=True)
class _Flight(Generic[Task, Result]):
    """A task that a worker has."""

    task: Task
    future: "Future[Result]"
