"""Processes of this machine."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Self

from mmhealth.engines.engine import (
    CLOSED,
    Engine,
    Progress,
    Result,
    Task,
    check_workers,
    in_words,
)
from mmhealth.engines.worker import Job, Worker
from mmhealth.errors import EngineError, LostTaskError

_AHEAD = 2
"""Tasks drawn for each worker: the one it works on, and one whose turn has not come."""
_DEATHS = 3
"""Workers that may die of a task before it is given up."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class LocalEngine(Engine):
    """Spawned processes: begun when the engine is entered, or there are tasks for them; ended by
    `close`.

    A worker that dies is replaced, and its task done again. Workers end with the process that began
    them, however that ends. A script that uses this guards what it does with
    ``if __name__ == "__main__"``, as for `multiprocessing`.
    """

    workers: int = field(default_factory=available_cores)
    _workers: list[Worker] = field(default_factory=list, init=False, repr=False)
    _closed: int = field(default=0, init=False, repr=False, compare=False)
    """How many times."""

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def __enter__(self) -> Self:
        """Begin workers, one a core: they get ready while tasks are looked for."""
        while len(self._workers) < min(self.workers, available_cores()):
            self._workers.append(Worker())
        return self

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        told: Progress | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map`. Several may be under way at a time."""
        source = iter(tasks)
        flight = deque[Job[Task, Result]]()
        yielded = done = 0
        closed = self._closed
        try:
            while True:
                if closed != self._closed:
                    raise EngineError(CLOSED)
                self._collect(timeout=0)
                self._fill(flight, function, source)
                if not flight:
                    return
                while True:
                    count = yielded + sum(job.answer is not None for job in flight)
                    if told is not None and count > done:
                        told(count)
                    done = count
                    if flight[0].answer is not None:
                        break
                    self._collect(timeout=None)
                    self._assign(flight)
                yielded += 1
                yield flight.popleft().result()
        finally:
            self._abandon(flight)

    def close(self) -> None:
        """See `Engine.close`."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._closed += 1

    def _fill(
        self,
        flight: deque[Job[Task, Result]],
        function: Callable[[Task], Result],
        source: Iterator[Task],
    ) -> None:
        """Draw tasks, and hand each to a worker before the next is drawn: drawing may take long."""
        self._assign(flight)
        while len(flight) < self.workers * _AHEAD:
            for task in source:
                flight.append(Job(function, task))
                self._assign(flight)
                break
            else:
                return

    def _assign(self, flight: deque[Job[Task, Result]]) -> None:
        """Hand tasks that wait to workers that are idle."""
        for job in flight:
            if job.answer is not None or job.given:
                continue
            if job.deaths >= _DEATHS:
                raise LostTaskError(
                    f"{job.deaths} workers died of the task {in_words(job.task)}; the last "
                    f"{job.died_of}",
                    job.task,
                )
            worker = next((worker for worker in self._workers if worker.job is None), None)
            if worker is None:
                if len(self._workers) >= self.workers:
                    return
                worker = Worker()
                self._workers.append(worker)
            worker.give(job)

    def _collect(self, timeout: float | None) -> None:
        """Take the answers that are there, of any map that is under way; bury the dead."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        for connection in wait(list(busy), timeout) if busy else ():
            worker = next(found for place, found in busy.items() if place is connection)
            if not worker.take():
                self._workers.remove(worker)

    def _abandon(self, flight: deque[Job[Task, Result]]) -> None:
        """End the workers that are at work on what nobody wants any more."""
        for worker in [w for w in self._workers if any(w.job is job for job in flight)]:
            worker.end()
            self._workers.remove(worker)
