"""Judges a fleet of runs by one policy, on whatever engine does the work."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmhealth.engines import Engine, Progress, SerialEngine, map_surviving
from mmhealth.errors import MmhealthError
from mmhealth.fleet.find import find_runs
from mmhealth.fleet.summary import VERDICTS, RunSummary, RunVerdict, summarise_run, unreadable
from mmhealth.health import Monitor, Policy, default_policy
from mmhealth.place import RunPlace, run_place
from mmhealth.report.audit import label_runs
from mmhealth.runlog import open_run


@dataclass(frozen=True, slots=True)
class Fleet:
    """Runs, judged by one policy."""

    policy: Policy
    runs: tuple[RunSummary, ...]

    @property
    def verdicts(self) -> dict[RunVerdict, int]:
        """How many runs have which, the gravest first; those that there are."""
        times = Counter(run.verdict for run in self.runs)
        return {name: times[name] for name in VERDICTS if times[name]}


def judge_fleet(
    given: Iterable[str | os.PathLike[str]],
    policy: Policy | None = None,
    *,
    engine: Engine | None = None,
    told: Progress | None = None,
    cache: Path | None = None,
) -> Fleet:
    """Judge the runs that are meant (`find_runs`), in the order of their paths.

    A run that cannot be read is a row with its error. ``told`` hears how many runs are done. Raises
    RunNotFoundError as `find_runs` does, RunError where the policy's reference run cannot be read,
    and EngineError.
    """
    paths = find_runs(given)
    return judge_runs(paths, policy, engine=engine, told=told, cache=cache)


def judge_runs(
    paths: Iterable[RunPlace],
    policy: Policy | None = None,
    *,
    engine: Engine | None = None,
    told: Progress | None = None,
    cache: Path | None = None,
) -> Fleet:
    """The same for runs that are found."""
    rules = policy or default_policy()
    if rules.reference is not None:
        open_run(rules.reference)
    judge = partial(judge_one, policy=rules, cache=cache)
    runs = list(each_judged(judge, list(paths), engine or SerialEngine(), told))
    return Fleet(rules, tuple(with_labels(runs)))


def each_judged(
    judge: Callable[[RunPlace], RunSummary],
    paths: Sequence[RunPlace],
    engine: Engine,
    told: Progress | None = None,
) -> Iterator[RunSummary]:
    """What ``judge`` says of each run, in order; one that workers die of is one that cannot be
    read, and costs no other."""
    return map_surviving(judge, paths, engine, unreadable, told)


def judge_one(path: RunPlace, policy: Policy, cache: Path | None = None) -> RunSummary:
    """What a worker does: read and judge one run, and forget all but its summary.

    ``cache`` is a folder of steps that were measured before; see `mmhealth.health.Monitor`.
    """
    try:
        return summarise_run(Monitor(path, policy, cache=cache))
    except (MmhealthError, OSError, UnicodeError) as error:
        return unreadable(path, error)


def with_labels(runs: list[RunSummary]) -> list[RunSummary]:
    """The runs, labelled by their names, or by paths where several have the same."""
    labels = label_runs([(run.name, run_place(run.path)) for run in runs])
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]
