"""A fleet of recorded runs of the reference trainer, healthy and sick, for judging the judgement.

    python benchmarks/fleet.py FOLDER [--seeds 200 201 ...] [--jobs 2]

makes what is missing in FOLDER, one run directory an arm and seed: ``FOLDER/2/baseline/200``. Runs
are labelled by their outcomes (`courses`), whatever arm they come from.
"""

import argparse
import multiprocessing as mp
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from mmhealth.health.calibration import Course, Harm, read_course
from mmhealth.health.heldout import held_out_course
from mmhealth.health.solved import SOLVED_SUCCESS_RATE
from mmhealth.reference.config import TrainConfig
from mmhealth.reference.experiments.arms import arms_of
from mmhealth.runlog import Run, open_run

ARMS: dict[str, tuple[str, ...]] = {
    "1": ("baseline", "staged 30 %", "entropy bonus", "no floor"),
    "2": ("baseline", "ESS loop", "unified", "stale baseline"),
    "3": ("baseline", "variance correction"),
    "4": ("hard", "soft", "hard latency"),
    "5": ("trained at 6", "mixed"),
    "orchestrator": ("baseline", "staged", "all", "all but soft"),
}
"""Arms by figure: 19, of all worlds."""
CHOOSING = (200, 201, 202, 203)
"""Seeds whose runs choose thresholds."""
JUDGING = (300, 301, 302, 303)
"""Seeds whose runs choose nothing: the figures that docs quote are theirs."""
CURED = {
    "1": "staged 30 %",
    "2": "unified",
    "3": "variance correction",
    "4": "soft",
    "5": "mixed",
    "orchestrator": "all",
}
"""The arm of each world that is known to work: what it ends at is what can be reached."""
NEAR = 0.05
"""A stall this close to what can be reached is no harm."""


@dataclass(frozen=True, slots=True)
class Member:
    """A run of the fleet, made or to be made."""

    figure: str
    arm: str
    seed: int
    path: Path

    @property
    def config(self) -> TrainConfig:
        """The arm's, evaluated often enough for a stall to be seen."""
        [arm] = [arm for arm in arms_of(self.figure) if arm.name == self.arm]
        loop = arm.config.loop
        often = replace(
            loop, eval_every=min(loop.eval_every, 5), eval_episodes=max(loop.eval_episodes, 240)
        )
        return replace(arm.config, loop=often)


def members(folder: Path, seeds: Sequence[int]) -> list[Member]:
    """All runs that the fleet is to have."""
    return [
        Member(
            figure, arm, seed, folder / figure / arm.replace(" ", "-").replace("%", "p") / str(seed)
        )
        for seed in seeds
        for figure, names in ARMS.items()
        for arm in names
    ]


def make(fleet: Sequence[Member], jobs: int) -> None:
    """Train what is missing; a run that was cut off is made again."""
    missing = [member for member in fleet if not (member.path / "done").exists()]
    os.environ.update({"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    with mp.get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
        for number, member in enumerate(pool.imap_unordered(_train, missing), 1):
            print(f"{number} of {len(missing)}: {member.figure} {member.arm}, seed {member.seed}")


def reachable(fleet: Sequence[Member]) -> dict[str, float]:
    """By figure the held-out success from which on a stall is no harm.

    Just below the median of what the runs of its cure end at, at the horizon that stalls are judged
    at. Take it from the choosing runs for both halves of the fleet.
    """
    found = {}
    for figure, cure in CURED.items():
        cured = [member for member in fleet if (member.figure, member.arm) == (figure, cure)]
        level = median(_end(open_run(member.path)) for member in cured)
        found[figure] = min(SOLVED_SUCCESS_RATE, level - NEAR)
    return found


def courses(fleet: Sequence[Member], solved_at: Mapping[str, float]) -> list[Course]:
    """The runs with what became of them; ``family`` is the figure whose world they share.

    A run without harm that ends below what can be reached is called borderline: it had as many
    steps as the cure, so there is no saying that it is healthy.
    """
    return [_course(member, solved_at[member.figure]) for member in fleet]


def _course(member: Member, solved_at: float) -> Course:
    run = open_run(member.path)
    name = f"{member.figure}/{member.arm}/{member.seed}"
    course = read_course(run, name=name, family=member.figure, solved_at=solved_at)
    if course.is_healthy and _end(run) < solved_at:
        short = Harm("borderline", None, "still short of what can be reached")
        return replace(course, harm=short)
    return course


def _end(run: Run) -> float:
    """Mean held-out success at the end of a run."""
    return float(held_out_course(run.evaluations).frame["mean"][-1])


def _train(member: Member) -> Member:
    from mmhealth.reference import train

    shutil.rmtree(member.path, ignore_errors=True)
    member.path.parent.mkdir(parents=True, exist_ok=True)
    train(
        member.figure,
        member.arm,
        config=member.config,
        seed=member.seed,
        run_dir=member.path,
        checkpoint_every=0,
        progress=False,
    )
    (member.path / "done").touch()
    return member


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*CHOOSING, *JUDGING])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    make(members(asked.folder, asked.seeds), asked.jobs)
