"""A writer killed with SIGKILL at random moments: every committed step is read back, every time."""

import multiprocessing
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl
import pytest

from mmhealth import Recorder, open_run
from mmhealth.runlog import seal_orphans

KILLS = 100
ROWS = 50


def write_until_killed(path: str, committed: Connection) -> None:
    """Log steps as fast as possible, announcing each as soon as ``log_step`` has returned."""
    rec = Recorder(path, segment_bytes=30_000)
    for step in range(100_000):
        rec.log_step(step, {"reward": [float(step)] * ROWS, "log_weight": [0.1] * ROWS})
        committed.send(step)


@pytest.fixture(scope="module")
def forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmhealth.runlog"])
    return context


def kill_one(
    context: multiprocessing.context.ForkServerContext, path: Path, rng: random.Random
) -> int:
    """Start a writer, kill it, and return the last step that it announced."""
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(str(path), sending))
    process.start()
    sending.close()
    last = receiving.recv()
    for _ in range(rng.randrange(60)):
        last = receiving.recv()
    if rng.random() < 0.5:
        receiving.poll(rng.random() * 0.004)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    try:
        while True:
            last = receiving.recv()
    except EOFError:
        return int(last)


def named_tails(path: Path) -> list[Path]:
    """Open tails. A writer killed before it could name one leaves a hidden file without rows."""
    return [tail for tail in path.rglob("*.arrows") if not tail.name.startswith(".")]


def check(path: Path, last: int) -> None:
    run = open_run(path)
    steps = run.steps["step"].to_list()
    assert steps == list(range(len(steps)))
    assert last <= steps[-1] <= last + 1
    for frame in (run.trajectories, run.updates):
        counts = frame.group_by("step", maintain_order=True).len()
        assert counts["step"].to_list() == steps
        assert set(counts["len"].to_list()) == {ROWS}
    assert run.trajectories["reward"].equals(
        run.trajectories["step"].cast(pl.Float64).alias("reward")
    )
    status = run.status()
    assert not status.quarantined
    assert not status.data_lost
    assert not status.incomplete


@pytest.mark.parametrize("part", range(4))
def test_every_committed_step_survives(
    tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext, part: int
) -> None:
    rng = random.Random(part)
    for number in range(KILLS // 4):
        path = tmp_path / str(number)
        last = kill_one(forkserver, path, rng)
        check(path, last)
        seal_orphans(path)
        assert not named_tails(path)
        check(path, last)


def test_the_next_attempt_seals_what_the_killed_one_left(
    tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    last = kill_one(forkserver, tmp_path, random.Random(9))
    with Recorder(tmp_path, start_step=last + 1) as rec:
        rec.log_step(last + 1, {"reward": [0.0]})
    assert not named_tails(tmp_path)
    assert open_run(tmp_path).steps["step"].to_list() == list(range(last + 2))


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": [1.0]})
        assert seal_orphans(tmp_path / "run") == []
        rec.log_step(1, {"reward": [1.0]})
    assert open_run(tmp_path / "run").status().steps_complete == 2
