"""A thread that works off jobs in order, so that a hanging disk cannot hang the training loop."""

import queue
import threading
from collections.abc import Callable


class Job:
    """Work handed to the thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._running = threading.Lock()
        self._running.acquire()
        self.error: Exception | None = None

    def run(self) -> None:
        """Do the work and keep what it raised."""
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, never dropped
            self.error = error
        self._running.release()

    def wait(self, timeout: float) -> bool:
        """Whether it was done in time."""
        done = self._running.acquire(timeout=timeout)
        if done:
            self._running.release()
        return done


class Background:
    """Runs jobs one after another on a daemon thread; holds at most ``limit`` that wait."""

    def __init__(self, name: str, limit: int) -> None:
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._limit = limit
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> Job | None:
        """Hand over work; None when too much is waiting already."""
        if self._queue.qsize() >= self._limit:
            return None
        job = Job(work)
        self._queue.put(job)
        return job

    def waiting(self) -> int:
        """Jobs that have not been begun."""
        return self._queue.qsize()

    def stop(self, timeout: float) -> bool:
        """Finish what waits, then end; False when that took longer than ``timeout`` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
