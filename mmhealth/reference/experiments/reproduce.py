"""Runs what is missing, holds the claims against it, writes figures and report."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmhealth.errors import MmhealthError
from mmhealth.reference.experiments.arms import FIGURES, Arm, arms_of
from mmhealth.reference.experiments.claims import CLAIMS, Verdict, judge
from mmhealth.reference.experiments.results import Results, load
from mmhealth.reference.experiments.run import Job
from mmhealth.reference.experiments.schedule import make
from mmhealth.runlog.lock import try_lock


class BusyError(MmhealthError):
    """Another process reproduces into the same folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be reproduced."""

    out: Path
    """Folder of results, figures and report."""
    figures: tuple[str, ...] = FIGURES
    """Which of `FIGURES`."""
    seeds: int = 3
    """Number of seeds."""
    first_seed: int = 100
    """First of them. Seeds below 100 were used while knobs were chosen."""
    jobs: int = 1
    """Runs at a time, one core each."""
    arms: tuple[Arm, ...] = field(default=())
    """Train these instead of the figures' own."""

    def all_arms(self) -> tuple[Arm, ...]:
        """Each arm once, though several figures may need it."""
        listed = self.arms or tuple(arm for name in self.figures for arm in arms_of(name))
        return tuple({(arm.figure, arm.name): arm for arm in listed}.values())

    def seed_numbers(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came out."""

    plan: Plan
    arms: tuple[Arm, ...]
    results: Results
    verdicts: tuple[Verdict, ...]
    made: int
    """Runs made by this call; the others lay there."""
    failed: tuple[str, ...]
    """Runs that died."""


def reproduce(plan: Plan, console: Console | None = None) -> Reproduction:
    """Make the runs that are missing and judge all claims of the figures.

    A run whose result lies in ``plan.out`` already, of the same configuration, is not made again:
    after an interruption the same call goes on. Raises `BusyError` if another process works there.
    """
    with _alone(plan.out):
        arms = plan.all_arms()
        missing = _missing(plan, arms)
        failed = _run(plan, missing, len(arms) * plan.seeds, console)
    results = Results.gather(plan.out, arms, plan.seed_numbers())
    verdicts = tuple(
        judge(claim, results, _shortfall(claim.figure, plan, arms, results))
        for claim in CLAIMS
        if claim.figure in plan.figures
    )
    return Reproduction(plan, arms, results, verdicts, len(missing) - len(failed), failed)


def _shortfall(figure: str, plan: Plan, arms: Sequence[Arm], results: Results) -> tuple[str, ...]:
    """Arms of a figure with fewer runs than planned, in words."""
    needed = {(arm.figure, arm.name) for arm in (arms if plan.arms else arms_of(figure))}
    counts = {key: len(results.of(*key)) for key in sorted(needed)}
    return tuple(
        f"{name} ({count} of {plan.seeds} seeds)"
        for (_, name), count in counts.items()
        if count < plan.seeds
    )


def _missing(plan: Plan, arms: Sequence[Arm]) -> list[Job]:
    return [
        Job(arm=arm, seed=seed, folder=plan.out)
        for arm in arms
        for seed in plan.seed_numbers()
        if load(plan.out, arm, seed) is None
    ]


def _run(plan: Plan, jobs: list[Job], total: int, console: Console | None) -> tuple[str, ...]:
    failed: list[str] = []
    with _bar(console) as bar:
        task = bar.add_task("training", total=total, completed=total - len(jobs))

        def done(job: Job, well: bool) -> None:
            if not well:
                failed.append(job.label)
            bar.update(task, advance=1, description=job.label)

        make(jobs, processes=max(plan.jobs, 1), done=done)
    return tuple(sorted(failed))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else works in the folder; what a killed process left aside is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        if try_lock(file.fileno()) is False:
            raise BusyError(f"another process reproduces into {folder}: wait for it to end")
        scratch = folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _bar(console: Console | None) -> Progress:
    shown = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=shown,
        disable=not shown.is_terminal,
    )
