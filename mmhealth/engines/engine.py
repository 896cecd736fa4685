"""What an engine is, and the simplest one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

Progress = Callable[[int], None]
"""Called with how many tasks are done, in any order, whenever one is."""


class Engine(Protocol):
    """Maps a function over tasks. The results do not depend on which engine does it."""

    @property
    def workers(self) -> int:
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
        EngineError when workers keep dying.
        """


class SerialEngine:
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
            result = function(task)
            if told is not None:
                told(done)
            yield result
