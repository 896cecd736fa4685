"""Reads many runs for calibration, here or on an engine."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mmhealth.engines import Engine
from mmhealth.health.calibration.replay import Course, read_course
from mmhealth.health.solved import SOLVED_SUCCESS_RATE
from mmhealth.health.step_intervals import Demand
from mmhealth.runlog import open_run


def read_courses(
    runs: Sequence[str | os.PathLike[str]],
    *,
    solved_at: float = SOLVED_SUCCESS_RATE,
    demanded: Collection[Demand] = (),
    engine: Engine | None = None,
    told: Callable[[int], None] | None = None,
) -> list[Course]:
    """The course of each run, as `read_course` reads it, named by its path.

    Of many runs a worker reads one; fewer than there are workers are read one after the other, each
    by all of them. ``told`` is called with how many are done. Raises RunError as `open_run` does.
    """
    each = _Runs(solved_at, frozenset(demanded))
    paths = [str(run) for run in runs]
    if engine is not None and len(paths) >= engine.workers:
        return list(engine.map(each.read, paths, told))
    courses = []
    for done, path in enumerate(paths, 1):
        courses.append(each.read(path, engine))
        if told is not None:
            told(done)
    return courses


@dataclass(frozen=True, slots=True)
class _Runs:
    """What is to be read of every run."""

    solved_at: float
    demanded: frozenset[Demand]

    def read(self, path: str, engine: Engine | None = None) -> Course:
        """One of them."""
        return read_course(
            open_run(path),
            name=path,
            solved_at=self.solved_at,
            demanded=self.demanded,
            engine=engine,
        )
