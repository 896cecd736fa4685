"""Ranks in processes of their own write one directory: they die, lag, restart, and log twice.

Whatever happens, no row counts twice, and the timeline is the one of a single writer that had all
the rows: a step is put together before any ratio is taken.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, RecorderHandle, new_attempt, open_run
from mmhealth.health import Monitor, build_timeline
from mmhealth.runlog.commits import PARTIAL_AFTER
from tests.conftest import make_batch

RANKS, ROWS = 3, 16


def share(step: int, rank: int, draw: int = 0) -> tuple[dict[str, Any], Any]:
    """What a rank has of a step: columns and log-ratios. Another draw has other numbers."""
    columns = make_batch(10_000 * draw + 100 * step + rank, ROWS, mixed=0.5)
    columns["group_id"] = columns["group_id"] + rank * ROWS
    return columns, 0.1 * np.random.default_rng([step, rank, draw]).normal(size=40 + rank)


def log(recorder: Recorder, step: int, rank: int, draw: int = 0) -> None:
    columns, ratios = share(step, rank, draw)
    recorder.log_step(step, columns, log_ratios=ratios, nominal_batch=RANKS * ROWS)


def write_as_one(path: Path, steps: Sequence[tuple[int, int]], ranks: Sequence[int]) -> Path:
    """All rows of (step, draw) from a single writer, in order of ranks."""
    with Recorder(path, strict=True) as recorder:
        for step, draw in steps:
            parts = [share(step, rank, draw) for rank in ranks]
            columns = {n: np.concatenate([c[n] for c, _ in parts]) for n in parts[0][0]}
            ratios = np.concatenate([r for _, r in parts])
            recorder.log_step(step, columns, log_ratios=ratios, nominal_batch=RANKS * ROWS)
    return path


def timeline(path: Path) -> pl.DataFrame:
    return build_timeline(open_run(path)).frame.drop("time", "attempt")


class Ranks:
    """Processes that log what they are told to; each says when a step is committed."""

    def __init__(self, handle: RecorderHandle) -> None:
        self.handle = handle
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mmhealth.runlog", "tests.conftest"])
        self.processes: dict[int, Any] = {}
        self.pipes: dict[int, Connection] = {}
        for rank in range(handle.world_size):
            self.begin(rank)

    def begin(self, rank: int) -> None:
        self.pipes[rank], theirs = self.context.Pipe()
        process = self.context.Process(target=obey, args=(self.handle.of(rank), theirs))
        process.start()
        theirs.close()
        self.processes[rank] = process

    def log(self, step: int, ranks: Sequence[int], draw: int = 0) -> None:
        for rank in ranks:
            self.pipes[rank].send((step, draw))
        for rank in ranks:
            assert self.pipes[rank].recv() == step

    def kill(self, rank: int) -> None:
        os.kill(self.processes[rank].pid, signal.SIGKILL)
        self.processes[rank].join()

    def end(self) -> None:
        for rank, process in self.processes.items():
            self.pipes[rank].close()
            process.join(10)
            assert process.exitcode in (0, -signal.SIGKILL)


def obey(handle: RecorderHandle, orders: Connection) -> None:
    assert handle.rank is not None
    recorder = handle.recorder()
    try:
        while True:
            step, draw = orders.recv()
            log(recorder, step, handle.rank, draw)
            orders.send(step)
    except EOFError:
        recorder.close()


def test_a_rank_that_dies_leaves_partial_steps_until_it_is_replaced(tmp_path: Path) -> None:
    path, all_ranks, left = tmp_path / "run", range(RANKS), (0, 1)
    ranks = Ranks(RecorderHandle.issue(path, world_size=RANKS))
    for step in range(4):
        ranks.log(step, all_ranks)
    ranks.kill(2)
    live = Monitor(path)
    told: list[tuple[int, bool]] = []
    for step in range(4, 12):
        ranks.log(step, left)
        before = set(live.timeline.lived)
        live.poll()
        new = sorted(set(live.timeline.lived) - before)
        told += [(k.step, bool(live.timeline.lived[k].values["complete"])) for k in new]
    # Each step is judged once: the whole ones at once, the others some steps later, as partial.
    assert told == [(step, step < 4) for step in range(12 - PARTIAL_AFTER)]
    partial = timeline(path)
    as_one = write_as_one(tmp_path / "partial", [(s, 0) for s in range(4, 7)], left)
    same = ["n", "ess_signal", "ess_weight", "gini_grad_norm", "reward", "log_ratio_p95"]
    assert partial.filter(~pl.col("complete")).select(same).equals(timeline(as_one).select(same))
    # It comes back, logs its last step again, and catches up.
    ranks.begin(2)
    for step in range(3, 12):
        ranks.log(step, [2])
    live.poll()
    ranks.end()
    as_one = write_as_one(tmp_path / "whole", [(s, 0) for s in range(12)], all_ranks)
    assert timeline(path).equals(timeline(as_one))
    assert live.timeline.frame.equals(build_timeline(open_run(path)).frame)
    status = open_run(path).status()
    assert (status.steps_complete, status.incomplete, status.data_lost) == (12, [], False)


def test_steps_that_are_logged_twice_count_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    ranks = Ranks(RecorderHandle.issue(path, world_size=RANKS))
    for step in range(6):
        ranks.log(step, range(RANKS))
        ranks.log(step, [1], draw=1)
        if step == 3:
            ranks.kill(2)
            ranks.begin(2)
            ranks.log(step, [2], draw=1)
    ranks.end()
    as_one = write_as_one(tmp_path / "one", [(s, 0) for s in range(6)], range(RANKS))
    assert timeline(path).equals(timeline(as_one))
    losses = {(loss.rank, loss.kind): loss.count for loss in open_run(path).status().losses}
    assert losses == {(1, "duplicate_commit"): 6, (2, "repeated_step"): 1}


def test_a_straggler_of_an_attempt_that_is_over_counts_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "run"
    old = Ranks(RecorderHandle.issue(path, world_size=RANKS))
    for step in range(6):
        old.log(step, range(RANKS))
    old.log(6, [0, 1])
    for rank in (0, 1):
        old.kill(rank)
    again = RecorderHandle.issue(path, world_size=RANKS, start_step=4)
    assert again.attempt == 1
    new = Ranks(again)
    for step in range(4, 9):
        new.log(step, range(RANKS), draw=1)
        old.log(step + 2, [2])
    for ranks in (old, new):
        ranks.end()
    steps = [(step, int(step >= 4)) for step in range(9)]
    as_one = write_as_one(tmp_path / "one", steps, range(RANKS))
    assert timeline(path).equals(timeline(as_one))
    live = Monitor(path)
    live.poll()
    assert {key.attempt for key, _ in live.timeline.visible() if key.step >= 4} == {1}


TRAIN = """
import os, signal, sys, time
from pathlib import Path
from mmhealth import Recorder
from tests.runlog.test_many_ranks import log

path = Path(sys.argv[1])
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
again = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
first = 4 if again else 0
with Recorder(path, rank=rank, world_size=size, start_step=first) as rec:
    for step in range(first, 9):
        if (step, rank, again) == (6, 1, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        log(rec, step, rank, draw=again)
        # All wait for all, as a step of training makes them.
        Path(f"{path}-{again}-{step}-{rank}").touch()
        while not all(Path(f"{path}-{again}-{step}-{other}").exists() for other in range(size)):
            time.sleep(0.01)
"""


def test_torchrun_restarts_all_ranks_when_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script, path = tmp_path / "train.py", tmp_path / "run"
    script.write_text(TRAIN)
    root = str(Path(__file__).parents[2])
    found = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("--max-restarts=1", "--monitor-interval=0.1", str(script), str(path)),
        ],
        env=os.environ | {"PYTHONPATH": found, "OMP_NUM_THREADS": "1", "MMHEALTH_ATTEMPT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert new_attempt(path) == 2
    as_one = write_as_one(tmp_path / "one", [(s, int(s >= 4)) for s in range(9)], range(2))
    assert timeline(path).equals(timeline(as_one))
    status = open_run(path).status()
    assert (status.steps_complete, status.incomplete, status.data_lost) == (9, [], False)
