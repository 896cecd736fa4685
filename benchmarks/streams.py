"""Synthetic streams that come to no harm, for counting false alarms.

    python benchmarks/streams.py FOLDER [--seeds 0 100 1000 2000] [--jobs 2]

makes what is missing in FOLDER: for each seed in the ranges the timeline of one stream of 500
steps, computed from trajectories by the code that serves real runs. Nothing in a stream goes wrong:
prompts of unlike difficulty are sampled in groups, advantages are rewards minus the group's mean,
and policies get better, or stay as they are. What differs is how noisy, how autocorrelated, how
large and how complete it is.
"""

import argparse
import multiprocessing as mp
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmhealth.health.calibration import Course, Harm
from mmhealth.health.metrics import StepMetrics, step_metrics
from mmhealth.runlog.stepdata import StepData

STEPS = 500
CHOOSING = range(100)
"""Seeds of the streams on which thresholds were tried."""
JUDGING = range(1000, 2000)
"""Seeds of the streams that the docs quote."""
KINDS = ("noise", "autocorrelated", "drifting", "gaps", "ranks", "solved", "sparse", "stale")
"""By seed in turn: independent noise; a slowly wandering difficulty; a success that rises; columns
that are missing, for good or at times; steps that lack a rank; a task that gets solved; one that
seldom succeeds; importance weights of high variance, which the loss truncates."""
LOW_ESS = ("solved", "sparse", "stale")
"""Kinds whose true ESS is low without harm: a class of their own."""

_DROPPABLE = ("grad_norm", "success", "group_id", "log_weight", "entropy", "strategic_entropy")
_ROWS = "rows behind "

Array = np.ndarray[Any, Any]


class Stream:
    """One stream; its knobs are drawn once, its steps one after the other."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(np.random.SeedSequence([20261122, seed]))
        self.kind = KINDS[seed % len(KINDS)]
        self.size = int(rng.choice([4, 8, 16]))
        self.rows = int(rng.choice([n for n in (16, 24, 32, 48, 64) if n >= 2 * self.size]))
        self.ranks = 4 if self.kind == "ranks" else 1
        self.spread = rng.uniform(0.3, 1.5)
        self.skill = rng.uniform(-1.0, 1.0)
        self.wander = rng.uniform(0.2, 0.8)
        self.memory = 0.97 if self.kind == "autocorrelated" else 0.0
        self.state = 0.0
        self.graded = bool(rng.random() < 0.4) and self.kind != "sparse"
        self.staleness = rng.uniform(1.2, 1.6) if self.kind == "stale" else rng.uniform(0.0, 0.3)
        self.norm_noise = rng.uniform(0.1, 0.6)
        self.entropy = rng.uniform(0.8, 2.0)
        self.entropy_kept = rng.uniform(0.3, 1.0)
        self.serial = rng.uniform(0.0, 0.4)
        missing = rng.random(len(_DROPPABLE)) < 0.3
        self.dropped = [
            name
            for name, is_missing in zip(_DROPPABLE, missing, strict=True)
            if is_missing and self.kind == "gaps"
        ]

    def step(self, step: int) -> StepData:
        """The rows of one step."""
        rng, n = self.rng, self.rows
        progress = step / STEPS
        groups = np.repeat(np.arange(n // self.size), self.size)
        n = len(groups)
        logit = self._skill(progress) + rng.normal(0, self.spread, n // self.size)[groups]
        success = rng.random(n) < 1 / (1 + np.exp(-logit))
        reward = success.astype(float)
        if self.graded:
            reward = reward + rng.normal(0, 0.1, n) + 0.3 / (1 + np.exp(-logit - 1))
        mean = np.bincount(groups, reward) / np.bincount(groups)
        advantage = reward - mean[groups]
        length = np.round(np.exp(rng.normal(6, 0.4, n)))
        scale = abs(rng.normal(self.staleness, self.staleness / 6))
        log_weight = rng.normal(-(scale**2) / 2, scale, n)
        kept = 1 - (1 - self.entropy_kept) * progress
        wobble = np.exp(rng.normal(0, 0.05))
        columns: dict[str, Any] = {
            "group_id": groups,
            "role": ["used"] * n,
            "reward": reward,
            "success": success,
            "length": length.astype(int),
            "token_count": length.astype(int),
            "entropy": self.entropy * kept * wobble * np.exp(rng.normal(0, 0.1, n)),
            "strategic_entropy": 1.4 * kept * wobble * np.exp(rng.normal(0, 0.1, n)),
            "violated": rng.random(n) < 0.05,
            "serial": rng.random(n) < self.serial,
            "advantage": advantage,
            "log_weight": log_weight,
            "grad_norm": np.abs(advantage)
            * np.minimum(np.exp(log_weight), 2.0)
            * np.exp(rng.normal(0, self.norm_noise, n)),
        }
        lost = self._lost()
        here = np.isin(np.arange(n) % self.ranks, [r for r in range(self.ranks) if r not in lost])
        return self._data(step, columns, here, lost)

    def _skill(self, progress: float) -> float:
        noise = self.rng.normal(0, self.wander)
        self.state = self.memory * self.state + np.sqrt(1 - self.memory**2) * noise
        if self.kind == "sparse":
            return -2.8 + self.state
        if self.kind == "solved":
            return self.skill + 6 * min(1.0, 2 * progress) + self.state
        rise = 2.0 * progress if self.kind == "drifting" else 0.0
        return self.skill + rise + self.state

    def _lost(self) -> tuple[int, ...]:
        """Ranks whose rows are not there."""
        if self.kind != "ranks" or self.rng.random() > 0.05:
            return ()
        return (int(self.rng.integers(self.ranks)),)

    def _data(
        self, step: int, columns: dict[str, Any], here: Array, lost: tuple[int, ...]
    ) -> StepData:
        absent = list(self.dropped)
        if self.kind == "gaps":
            absent += [name for name in _DROPPABLE if self.rng.random() < 0.05]
        rows = pl.DataFrame(columns).drop(absent).filter(pl.Series(here))
        keys = pl.DataFrame({"step": step, "trajectory_id": np.flatnonzero(here)})
        keys = keys.with_columns(rank=pl.lit(0), attempt=pl.lit(0))
        of_update = [c for c in ("advantage", "log_weight", "grad_norm") if c in rows.columns]
        updates = rows.select("role", *of_update).with_columns(update=pl.lit(0))
        return StepData(
            step=step,
            attempt=0,
            complete=not lost,
            ranks_expected=self.ranks,
            ranks=tuple(rank for rank in range(self.ranks) if rank not in lost),
            nominal_batch=len(here),
            rows_missing=0,
            trajectories=pl.concat([keys, rows.drop(of_update)], how="horizontal"),
            updates=pl.concat([keys, updates], how="horizontal"),
            scalars={},
            histograms={},
            committed=float(step),
        )


def read(folder: Path, seed: int) -> Course:
    """A stream that was made; its kind is its family."""
    kind = KINDS[seed % len(KINDS)]
    steps = []
    for row in pl.read_parquet(folder / f"{seed}.parquet").iter_rows(named=True):
        rows = {
            name.removeprefix(_ROWS): count
            for name, count in row.items()
            if name.startswith(_ROWS) and count is not None
        }
        values = {name: value for name, value in row.items() if not name.startswith(_ROWS)}
        steps.append(StepMetrics(values, rows=rows))
    return Course(f"{kind}/{seed}", tuple(steps), Harm("none", None, "", STEPS - 1), kind)


def make(folder: Path, seeds: Iterable[int], jobs: int) -> None:
    """Compute what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(folder, seed) for seed in seeds if not (folder / f"{seed}.parquet").exists()]
    os.environ.update({"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    with mp.get_context("spawn").Pool(jobs) as pool:
        for number, seed in enumerate(pool.imap_unordered(_make, missing), 1):
            if number % 50 == 0:
                print(f"{number} of {len(missing)} (seed {seed})", flush=True)


def _make(asked: tuple[Path, int]) -> int:
    folder, seed = asked
    stream, rows = Stream(seed), []
    for step in range(STEPS):
        metrics = step_metrics(stream.step(step), "sequence")
        counts = {f"{_ROWS}{name}": count for name, count in metrics.rows.items()}
        rows.append(metrics.values | counts)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    whole = folder / f"{seed}.part"
    frame.write_parquet(whole)
    whole.rename(folder / f"{seed}.parquet")
    return seed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    ends = [CHOOSING.start, CHOOSING.stop, JUDGING.start, JUDGING.stop]
    parser.add_argument("--seeds", type=int, nargs="+", default=ends, help="ends of ranges")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    ranges = zip(given.seeds[::2], given.seeds[1::2], strict=True)
    wanted = [seed for start, stop in ranges for seed in range(start, stop)]
    make(given.folder, wanted, given.jobs)
