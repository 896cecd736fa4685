"""What an engine is, and the simplest one."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

from mmhealth.errors import EngineError

Task = TypeVar("Task")
Result = TypeVar("Result")

Progress = Callable[[int], None]
"""Called with how many tasks are done, in any order, whenever that has grown."""


class Engine(Protocol):
    """Maps a function over tasks. The results do not depend on which engine does it.

    An engine is a context manager that ends its workers; it is used by one thread.
    """

    workers: int
    """How many tasks it works on at once."""

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        told: Progress | None = None,
    ) -> Iterator[Result]:
        """The results, in the order of the tasks, each as soon as it and those before are there.

        ``function`` and tasks must be picklable, and doing a task twice must be harmless: one whose
        worker died is done again. Tasks are drawn no further ahead than the workers can use, so
        that neither they nor results pile up. What ``function`` raises is raised here. Raises
        LostTaskError, which holds the task, when its workers keep dying, and EngineError when
        workers are ended before the results are taken.
        """

    def close(self) -> None:
        """End the workers, whatever they do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def do_task(function: Callable[[Task], Result], task: Task) -> Result:
    """What an engine's worker does; to end the process is an error like others.

    Raises EngineError then.
    """
    try:
        return function(task)
    except SystemExit as error:
        raise EngineError(f"the task {in_words(task)} raised SystemExit({error.code!r})") from error


class SerialEngine(Engine):
    """Does one task after the other, here."""

    workers = 1

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        told: Progress | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map`."""
        for done, task in enumerate(tasks, 1):
            result = do_task(function, task)
            if told is not None:
                told(done)
            yield result

    def close(self) -> None:
        """There is nothing to end."""


CLOSED = "the engine was closed before all results were taken: take them inside of its with block"
"""What is wrong with a map that goes on after the engine's end."""


def check_workers(workers: int) -> None:
    """Raises EngineError for a number of workers that would do nothing."""
    if workers < 1:
        raise EngineError(f"an engine has at least one worker, not {workers}")


def in_words(task: object) -> str:
    """A task, short enough for an error."""
    text = repr(task)
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


_WORDS = 160
