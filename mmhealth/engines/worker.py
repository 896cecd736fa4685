"""One process that does one task at a time."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, Generic

from mmhealth.engines.engine import Result, Task, do_task
from mmhealth.errors import EngineError


@dataclass(slots=True, eq=False)
class Job(Generic[Task, Result]):
    """A task on its way."""

    function: Callable[[Task], Result]
    task: Task
    given: bool = False
    """A worker has it."""
    deaths: int = 0
    died_of: str = ""
    answer: bytes | None = None

    def result(self) -> Result:
        """What the function made of the task; raises what it raised."""
        error, result = pickle.loads(self.answer or b"")
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


class Worker:
    """A process, and what it has to do."""

    def __init__(self) -> None:
        if multiprocessing.current_process().daemon:
            raise EngineError(
                "a worker begins no workers of its own: what it does uses SerialEngine"
            )
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.job: Job[Any, Any] | None = None
        self._process = context.Process(
            target=_work, args=(theirs,), daemon=True, name="mmhealth-worker"
        )
        self._process.start()
        theirs.close()

    def give(self, job: Job[Any, Any]) -> None:
        """Have a job done; whether the process lives shows when the answer is taken."""
        message = pickle.dumps((job.function, job.task))
        self.job, job.given = job, True
        try:
            self.connection.send_bytes(message)
        except OSError:
            # It is dead: nothing that it could say is lost, for `take` finds the end of its words.
            return

    def take(self) -> bool:
        """Take the answer, once there is something to read; False where the process died of it."""
        job = self.job
        if job is None:
            return True
        try:
            job.answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            self._process.join(_LINGER_S)
            job.deaths += 1
            job.died_of = _cause(self._process.exitcode)
            self.end()
            job.given = False
            return False
        # Not before: whoever is interrupted while the answer comes leaves a worker that is at work.
        self.job, job.given = None, False
        return True

    def dismiss(self) -> None:
        """Let the process end: at once where it works, else when it sees that nobody asks."""
        self.connection.close()
        if self.job is not None:
            self._process.kill()

    def end(self) -> None:
        """See that the process ends."""
        self.dismiss()
        self._process.join(_LINGER_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


_LINGER_S = 5.0
_MOST_TASKS = "mmhealth.health.windows"
"""What most tasks are made of: imported while there is none."""


def _work(connection: Connection) -> None:
    """Answer until nobody asks any more: the life of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_module(_MOST_TASKS)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Taking an interpreter down takes longer than many a task.


def _end_with_parent() -> None:
    """Leave no orphan at work, however the parent died."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _answer(message: bytes) -> bytes:
    """The error or the result, so that whoever asked can unpickle it."""
    try:
        function, task = pickle.loads(message)
        return pickle.dumps((None, do_task(function, task)))
    except Exception as error:  # noqa: BLE001 (it is raised where the task came from)
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        try:
            answer = pickle.dumps((error, None))
            pickle.loads(answer)
        except Exception:  # noqa: BLE001 (so do errors of pickling errors end)
            unknown = EngineError(f"{type(error).__name__}: {error}")
            unknown.add_note(error.__notes__[-1])
            return pickle.dumps((unknown, None))
        return answer


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return (
            f"ended with exit code {exit_code}. A script that begins workers guards what it does "
            'with if __name__ == "__main__"'
        )
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was killed by {name}. Where memory ran out, use fewer workers"
