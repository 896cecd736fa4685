"""Maps over tasks some of which may kill whoever does them."""

from collections.abc import Callable, Iterator, Sequence

from mmhealth.engines.engine import Engine, Progress, Result, Task
from mmhealth.errors import LostTaskError


def map_surviving(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    engine: Engine,
    lost: Callable[[Task, LostTaskError], Result],
    told: Progress | None = None,
) -> Iterator[Result]:
    """What `Engine.map` gives; a task that workers die of costs no other, and ``lost`` says what
    stands in its place. Tasks are to be different."""
    instead: dict[int, Result] = {}
    done = most = 0

    def count(now: int) -> None:
        nonlocal most
        if told is not None and len(tasks) - len(here) + now > most:
            told(most := len(tasks) - len(here) + now)

    while done < len(tasks):
        here = [place for place in range(done, len(tasks)) if place not in instead]
        results = engine.map(function, [tasks[place] for place in here], count)
        try:
            for place in range(done, len(tasks)):
                yield instead[place] if place in instead else next(results)
                done += 1
        except LostTaskError as error:
            place = next(place for place in here if tasks[place] == error.task)
            instead[place] = lost(tasks[place], error)
