"""Many small runs, made in seconds: sweeps as people have them, healthy and sick.

    python benchmarks/small_runs.py FOLDER [--runs 2000]

makes ``FOLDER/<experiment>/<run>``: 40 to 200 steps of 32 trajectories in four groups, held-out
evaluations, and a configuration. What becomes of a run is drawn with its seed (`FATES`).
"""

import argparse
import itertools
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth import Recorder

ROWS, GROUP = 32, 8
FATES = {
    "steady": 0.55,
    "declining": 0.10,
    "collapsing": 0.15,
    "rescued": 0.06,
    "specialising": 0.06,
    "broken": 0.02,
    "bare": 0.04,
    "unreadable": 0.02,
}
"""What becomes of a run, and how often; ``bare`` logs rewards and lengths alone."""
EXPERIMENTS = ("math-7b", "code-7b", "tools-32b", "search-agent")


@dataclass(frozen=True, slots=True)
class SmallRun:
    """A run to be made."""

    path: Path
    seed: int

    @property
    def fate(self) -> str:
        """What becomes of it."""
        drawn = random.Random(self.seed).choices([*FATES], [*FATES.values()])
        return drawn[0]


def small_runs(folder: Path, count: int) -> list[SmallRun]:
    """What a folder of ``count`` runs has."""
    names = itertools.cycle(EXPERIMENTS)
    return [
        SmallRun(folder / experiment / f"{experiment}-s{seed:04d}", seed)
        for seed, experiment in zip(range(count), names, strict=False)
    ]


def make(runs: list[SmallRun], jobs: int = 2) -> None:
    """Record what is missing."""
    missing = [run for run in runs if not (run.path / "run.json").exists()]
    with ProcessPoolExecutor(jobs) as pool:
        for _ in pool.map(_record, missing, chunksize=16):
            pass


def _record(run: SmallRun) -> None:
    rng = np.random.default_rng(run.seed)
    fate, steps = run.fate, int(rng.integers(40, 201))
    config = {
        "model": run.path.parent.name,
        "seed": run.seed,
        "optimizer": {"lr": float(rng.choice([1e-6, 3e-6, 1e-5]))},
        "kl_coef": float(rng.choice([0.0, 0.001, 0.01])),
    }
    with Recorder(run.path, nominal_batch=ROWS, config=config) as recorder:
        for step in range(steps):
            recorder.log_step(step, _batch(rng, fate, step / steps))
            if step % 10 == 9:
                rate = 0.3 + 0.5 * min(_skill(fate, step / steps), 1.0)
                recorder.log_evaluation(
                    step, episodes=200, successes=int(rng.binomial(200, rate)), eval_horizon=8
                )
    if fate == "unreadable":
        (run.path / "run.json").write_text('{"schema_version": ', encoding="utf-8")


def _skill(fate: str, progress: float) -> float:
    """Held-out skill: sick runs stop learning."""
    return min(progress, 0.7) if fate in ("collapsing", "specialising", "broken") else progress


def _batch(rng: np.random.Generator, fate: str, progress: float) -> dict[str, Any]:
    rows = ROWS
    if fate == "bare":
        return {"reward": rng.normal(size=rows), "length": rng.integers(20, 400, rows)}
    advantage = rng.normal(size=rows)
    live = {
        "declining": 1.0 - 0.65 * progress,
        "collapsing": min(1.0, max(0.06, 1.0 - 3.0 * (progress - 0.2))),
        "rescued": 0.08 if 0.3 < progress < 0.5 else 1.0,
    }.get(fate, 1.0)
    advantage[rng.random(rows) > live] *= 0.01
    entropy = 1.2 * (0.05 if fate == "specialising" and progress > 0.5 else 1 - 0.3 * progress)
    grad_norm = np.abs(advantage) * np.exp(0.2 * rng.normal(size=rows))
    if fate == "broken" and progress > 0.9:
        grad_norm[0] = np.nan
    success = rng.random(rows) < 0.3 + 0.4 * _skill(fate, progress)
    return {
        "group_id": np.arange(rows) // GROUP,
        "reward": success + 0.1 * rng.normal(size=rows),
        "success": success,
        "advantage": advantage,
        "log_weight": 0.05 * rng.normal(size=rows),
        "grad_norm": grad_norm,
        "entropy": entropy + 0.02 * rng.random(rows),
        "length": rng.integers(20, 400, rows),
        "token_count": rng.integers(20, 400, rows),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    make(small_runs(asked.folder, asked.runs), asked.jobs)
