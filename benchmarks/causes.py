"""A fleet of runs with known causes, all in the orchestrator's world, for judging the diagnosis.

    python benchmarks/causes.py FOLDER [--seeds 500 501 ...] [--jobs 1]

makes what is missing in FOLDER, one run directory a cause and seed: ``FOLDER/staleness/400``. The
environment's name is in no run, all runs have the same columns, and each was restarted once, most
of them without a fault, unless it died before.
"""

import argparse
import multiprocessing as mp
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from disturbed import Disturbance, Numerics, Resuming, Rewarding, Sampling, run

from mmhealth.interventions import Constraint
from mmhealth.reference import Fixes, LoopConfig, TrainConfig
from mmhealth.reference.environments.orchestrator import OrchestratorConfig

CHOOSING = tuple(range(15))
"""Seeds whose runs chose thresholds of evidence: all causes on the first four, those that the first
judging found wanting on all."""
FIRST_JUDGING = tuple(range(400, 412))
"""Seeds that judged the first version of the signs, and so told what to mend."""
JUDGING = tuple(range(500, 512))
"""Seeds whose runs chose nothing."""
PER_MODE = 10
"""Seeds that every single cause gets; healthy and mixed runs get all."""
STEPS = 80
HORIZONS = (6, 10, 16, 25)


@dataclass(kw_only=True)
class Setup:
    """A run to be, before a cause has had its way with it."""

    world: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] = field(default_factory=dict)
    fixes: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    rewarding: dict[str, Any] = field(default_factory=dict)
    numerics: dict[str, Any] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> TrainConfig:
        """World, loop and fixes; nothing is wrong where no cause says so."""
        world = OrchestratorConfig(
            **{
                "length": (20, 120),
                "surface": 0.0,
                "source_scales": (1.0, 1.0, 1.0),
                "source_noise": (0.05, 0.1, 0.1),
                "pace": (0.2, 0.45),
                "need": (1, 3),
                "late_share": 0.0,
                **self.world,
            }
        )
        loop = LoopConfig(
            group_size=8,
            hidden=24,
            learning_rate=0.01,
            reward_weights={"verifiable": 0.5, "preference": 0.5},
            eval_episodes=60,
            eval_every=5,
        )
        fixes = Fixes(**{"horizons": HORIZONS, "constraints": (SOFT,), **self.fixes})
        return TrainConfig(
            environment=world, steps=STEPS, loop=replace(loop, **self.loop), fixes=fixes
        )

    @property
    def disturbance(self) -> Disturbance:
        """Everything else."""
        return Disturbance(
            sampling=Sampling(**self.sampling),
            rewarding=Rewarding(**self.rewarding),
            numerics=Numerics(**self.numerics),
            resume=Resuming(**self.resume),
        )


SOFT = Constraint("load", scale=0.005, width=0.3, margin=0.2)
Cause = Callable[[Setup, random.Random], None]


def premature_specialisation(setup: Setup, chance: random.Random) -> None:
    """Raters go by the surface of calls that do not parse, and count for most of the reward."""
    setup.world |= {"surface": chance.uniform(0.8, 1.0), "popular_families": 1}
    preference = chance.uniform(0.85, 0.95)
    setup.loop["reward_weights"] = {"verifiable": 1 - preference, "preference": preference}


def estimator_collapse(setup: Setup, chance: random.Random) -> None:
    """A batch is used for many updates with a large step, though it is fresh."""
    setup.loop |= {
        "updates": chance.choice((6, 7, 8)),
        "learning_rate": chance.uniform(0.02, 0.03),
        "log_weight_clip": 2.0,
        "warmup": 10,
        "lag": 0,
    }


def gradient_domination(setup: Setup, chance: random.Random) -> None:
    """One source rates in a unit of its own, and noisily."""
    loud = chance.uniform(10.0, 20.0)
    setup.world |= {
        "source_scales": (1.0, 1.0, loud),
        "source_noise": (0.05, 0.1, loud),
    }


def serial_collapse(setup: Setup, chance: random.Random) -> None:
    """Going over the limit costs a hard penalty."""
    setup.loop["violation_cost"] = chance.uniform(3.0, 8.0)
    setup.world["pace"] = (0.4, 0.65)
    setup.fixes["constraints"] = ()


def needless_subagents(setup: Setup, chance: random.Random) -> None:
    """Parallel work is rewarded for good, where one sub-agent would do."""
    setup.world |= {"pace": (0.04, 0.1), "limit": (5.0, 7.0)}
    bonus = chance.uniform(1.0, 2.0)
    setup.fixes["constraints"] = (replace(SOFT, beta0=bonus, decay_steps=1e9),)


def horizon_overfitting(setup: Setup, chance: random.Random) -> None:
    """Trained at the shortest horizon, where plans never go stale; needed at others."""
    setup.fixes["horizons"] = (6,)
    setup.world |= {"plan_lasts": chance.choice((3, 4)), "stale": chance.uniform(0.3, 0.5)}


def tool_context(setup: Setup, chance: random.Random) -> None:
    """What the trainer reads after tool results is ever less what the sampler saw."""
    setup.sampling |= {"reread": chance.uniform(1.0, 2.0), "reread_from": chance.randrange(5, 30)}


def mismatch(setup: Setup, chance: random.Random) -> None:
    """The sampler holds coarse weights."""
    setup.sampling["grid"] = chance.uniform(0.12, 0.3)


def dead_groups(setup: Setup, chance: random.Random) -> None:
    """Only the outcome pays, and prompts are hopeless or trivial."""
    hopeless = chance.choice((1.0, 0.9, 0.6))
    begin = chance.choice((0, 25)) if hopeless == 1.0 else 25
    setup.rewarding |= {
        "outcome_only_from": begin,
        "hopeless": hopeless,
        "trivial": 0.4 if hopeless == 0.6 else 0.0,
    }


def staleness(setup: Setup, chance: random.Random) -> None:
    """The policy that samples is many steps behind."""
    setup.loop["lag"] = chance.randrange(6, 12)


def hacking(setup: Setup, chance: random.Random) -> None:
    """From some step on a component can be gamed."""
    setup.rewarding |= {
        "gamed": chance.choice(("flattery", "planning")),
        "gamed_from": chance.randrange(38, 53),
        "price": chance.uniform(2.0, 4.0),
    }


def nonfinite(setup: Setup, chance: random.Random) -> None:
    """0 / 0: the mean of a trajectory whose tokens are all masked, or a group's spread of zero."""
    how = chance.choice(("masked", "masked", "spread"))
    guarded = chance.random() < 0.6
    if how == "masked":
        setup.numerics |= {"filters_from": chance.randrange(10, 50), "guarded": guarded}
    else:
        setup.numerics |= {"divides_by_spread": True, "guarded": guarded}
        setup.loop["reward_weights"] = {"verifiable": 1.0, "preference": 0.0}
        setup.fixes["constraints"] = ()


def resume_fault(setup: Setup, chance: random.Random) -> None:
    """An old checkpoint is restored, and the optimizer begins anew."""
    at = chance.randrange(35, 60)
    behind = chance.randrange(18, 33)
    setup.resume |= {"at": at, "behind": behind, "keeps_optimizer": False}


CAUSES: dict[str, Cause] = {
    "premature specialisation": premature_specialisation,
    "estimator collapse": estimator_collapse,
    "gradient domination": gradient_domination,
    "serial collapse": serial_collapse,
    "needless sub-agents": needless_subagents,
    "horizon overfitting": horizon_overfitting,
    "tool-context variance growth": tool_context,
    "train-inference mismatch": mismatch,
    "dead groups": dead_groups,
    "staleness": staleness,
    "reward-component divergence": hacking,
    "non-finite values": nonfinite,
    "resume fault": resume_fault,
}
HEALTHY = "healthy"
MIXED: tuple[tuple[str, str], ...] = (
    ("staleness", "gradient domination"),
    ("serial collapse", "train-inference mismatch"),
    ("reward-component divergence", "tool-context variance growth"),
    ("estimator collapse", "premature specialisation"),
    ("horizon overfitting", "resume fault"),
    ("needless sub-agents", "staleness"),
)
"""Pairs of causes that act together."""


@dataclass(frozen=True, slots=True)
class Member:
    """A run of the fleet, made or to be made."""

    causes: tuple[str, ...]
    seed: int
    path: Path

    @property
    def setup(self) -> Setup:
        """How it is made.

        Its restart is clean but where a cause spoils it; some lag and reuse are in every kind.
        """
        setup = Setup()
        chance = random.Random(f"{self.causes} {self.seed}")
        setup.resume["at"] = chance.randrange(20, 60)
        lag, updates = chance.choice((0, 1)), chance.choice((1, 2))
        rate = 0.015 / (1 + 0.35 * (updates * (1 + lag) - 1))
        setup.loop |= {"lag": lag, "updates": updates, "learning_rate": rate}
        for name in self.causes:
            CAUSES[name](setup, chance)
        return setup


def members(folder: Path, seeds: Sequence[int], per_mode: int = PER_MODE) -> list[Member]:
    """All runs that the fleet is to have: seed by seed, so that it can be cut short.

    The first ``per_mode`` seeds get every single cause, all get a healthy run and a pair.
    """
    found = []
    for number, seed in enumerate(seeds):
        single = CAUSES if number < per_mode else ()
        for causes in [(), *((name,) for name in single), MIXED[number % len(MIXED)]]:
            name = " + ".join(causes) or HEALTHY
            found.append(Member(tuple(causes), seed, folder / name.replace(" ", "-") / str(seed)))
    return found


def make(fleet: Sequence[Member], jobs: int) -> None:
    """Train what is missing; a run that was cut off is made again."""
    missing = [member for member in fleet if not (member.path / "done").exists()]
    os.environ.update({"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    with mp.get_context("spawn").Pool(jobs, maxtasksperchild=16) as pool:
        for number, (path, took) in enumerate(pool.imap(_train, missing), 1):
            print(f"{number} of {len(missing)}: {path}, {took:.1f} s", flush=True)


def _train(member: Member) -> tuple[Path, float]:
    import torch

    torch.set_num_threads(1)
    began = time.monotonic()
    shutil.rmtree(member.path, ignore_errors=True)
    member.path.parent.mkdir(parents=True, exist_ok=True)
    run(member.path, member.setup.config, member.setup.disturbance, member.seed)
    (member.path / "done").touch()
    return member.path, time.monotonic() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=JUDGING)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    make(members(asked.folder, asked.seeds), asked.jobs)
