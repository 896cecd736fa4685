"""Runs of a made-up task, learned in 40 steps, and ways to spoil them; the Recorder is real."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, Run, open_run

GROUPS, SIZE, STEPS = 8, 8, 40
ROWS = GROUPS * SIZE
HORIZONS = (6, 10, 16, 25)


@dataclass
class Batch:
    """One step before it is recorded; tests change what they like."""

    step: int
    rng: np.random.Generator
    columns: dict[str, Any]
    """Of trajectories."""
    parts: dict[str, Any]
    """(rows,) parts of the log weight: mismatch, age, reuse."""
    grad_norm: Any
    ratios: Any
    """(tokens,) log-ratios; the last quarter follows a tool result."""
    evaluations: dict[int, float] = field(default_factory=dict)
    """Held-out success by horizon."""

    @property
    def done(self) -> float:
        """Share of the run that lies behind."""
        return self.step / (STEPS - 1)


Spoil = Callable[[Batch], None]


def healthy_batch(step: int, rng: np.random.Generator) -> Batch:
    """A step of a run that learns: success from 5 % to 65 %, with sub-agents of use."""
    done = step / (STEPS - 1)
    group = np.repeat(np.arange(GROUPS), SIZE)
    helpers = rng.integers(1, 9, ROWS)
    success = rng.random(ROWS) < (0.05 + 0.6 * done) * (0.6 + 0.1 * helpers)
    violated = rng.random(ROWS) < 0.3 - 0.2 * done
    verifiable = 0.4 + 0.4 * done + 0.1 * rng.normal(size=ROWS)
    preference = success + 0.1 * rng.normal(size=ROWS)
    reward = (verifiable + preference) / 2 - 0.02 * violated
    advantage = reward - reward.reshape(GROUPS, SIZE).mean(1).repeat(SIZE)
    return Batch(
        step=step,
        rng=rng,
        columns={
            "group_id": group,
            "reward": reward,
            "reward_verifiable": verifiable,
            "reward_preference": preference,
            "success": success,
            "entropy": np.full(ROWS, 1.2 - 0.6 * done) + 0.02 * rng.normal(size=ROWS),
            "strategic_entropy": np.full(ROWS, 1.5 - 0.6 * done) + 0.05 * rng.normal(size=ROWS),
            "length": rng.integers(20, 120, ROWS),
            "turns": rng.integers(3, 9, ROWS),
            "horizon": rng.choice(HORIZONS, ROWS),
            "source": np.array(["a", "b", "c", "c"])[group % 4].tolist(),
            "subagents": helpers,
            "serial": helpers < 2,
            "refused": np.zeros(ROWS, bool),
            "violated": violated,
            "behavior_lag": np.full(ROWS, 1),
            "advantage": advantage,
        },
        parts={
            "mismatch": 0.01 * rng.normal(size=ROWS),
            "age": 0.1 * rng.normal(size=ROWS),
            "reuse": 0.1 * rng.normal(size=ROWS),
        },
        grad_norm=np.abs(advantage) * np.exp(0.1 * rng.normal(size=ROWS)),
        ratios=0.05 * rng.normal(size=400),
        evaluations=dict.fromkeys(HORIZONS, 0.05 + 0.6 * done) if step % 5 == 4 else {},
    )


def record_course(
    path: Path,
    *spoils: Spoil,
    seed: int = 0,
    steps: int = STEPS,
    restarts: Sequence[int] = (),
    without: Sequence[str] = (),
) -> Run:
    """A finished run; ``restarts`` are first steps of further attempts, ``without`` columns."""
    rng = np.random.default_rng(seed)
    batches = [healthy_batch(step, rng) for step in range(steps)]
    for batch in batches:
        for spoil in spoils:
            spoil(batch)
    edges = [0, *restarts, steps]
    for first, last in pairwise(edges):
        with Recorder(path, strict=True, start_step=first, time_budget=60.0) as recorder:
            for batch in batches[first:last]:
                _record(recorder, batch, set(without))
    return open_run(path)


def _record(recorder: Recorder, batch: Batch, without: set[str]) -> None:
    columns = dict(batch.columns)
    advantage = columns.pop("advantage")
    parts = batch.parts
    with recorder.step(batch.step) as step:
        step.add({name: values for name, values in columns.items() if name not in without})
        for update in (0, 1):
            use = {
                "advantage": advantage,
                "log_weight": parts["mismatch"] + parts["age"] + update * parts["reuse"],
                "log_weight_mismatch": parts["mismatch"],
                "grad_norm": batch.grad_norm,
            }
            kept = {name: values for name, values in use.items() if name not in without}
            if kept:
                step.update(kept, update=update)
        if "log_ratios" not in without:
            after = np.arange(batch.ratios.size) >= 0.75 * batch.ratios.size
            step.log_ratios(batch.ratios, after_tool=after)
    for horizon, rate in batch.evaluations.items():
        if "evaluations" not in without:
            recorder.log_evaluation(
                batch.step, eval_horizon=horizon, episodes=200, successes=round(200 * rate)
            )


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Callable[..., Run]:
    """`record_course` into a folder of its own."""

    def make(*spoils: Spoil, **more: Any) -> Run:
        return record_course(tmp_path_factory.mktemp("runs") / "run", *spoils, **more)

    return make


@pytest.fixture(scope="session")
def healthy_course(course) -> Run:
    """A run in which nothing is wrong, restarted once without a fault. Only for reading."""
    return course(restarts=[22])
