"""Retention killed at any moment, and beside a writer that compacts: no step is ever lost."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import RetentionBusyError
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.timeline import LivedStep, build_timeline
from mmhealth.retention import Keep, reduce_run

STEPS, KEPT = 40, 5


def lived(path: Path) -> dict[LivedStep, StepMetrics]:
    return build_timeline(open_run(path)).lived


def reduce_until(path: str, last: int, told: Connection) -> None:
    """Dies as it begins its last operation on a file; tells how many there were if it lives on."""
    done = 0

    def count(event: str, about: tuple[Any, ...]) -> None:
        nonlocal done
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and path in str(about[0]):
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    for kept in (30, 20, 10, KEPT):
        reduce_run(path, Keep(kept))
    told.send(done)


def log_and_tell(path: str, committed: Connection) -> None:
    with Recorder(path, segment_bytes=3_000, compact_segments=4) as rec:
        for step in range(150):
            rec.log_step(step, {"reward": [float(step), 0.0] * 10, "log_weight": [0.1, 0.2] * 10})
            committed.send(step)


@pytest.fixture(scope="module")
def forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmhealth.retention"])
    return context


def test_a_kill_at_any_moment_leaves_a_run_that_reads_the_same(
    tmp_path: Path, batch: Any, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    with Recorder(tmp_path / "run", segment_bytes=10_000) as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step))
    before = lived(tmp_path / "run")

    def reduce_in_child(path: Path, last: int) -> int:
        shutil.copytree(tmp_path / "run", path)
        receiving, sending = forkserver.Pipe(duplex=False)
        process = forkserver.Process(target=reduce_until, args=(str(path), last, sending))
        process.start()
        sending.close()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if last else 0)
        return 0 if last else int(receiving.recv())

    operations, states = reduce_in_child(tmp_path / "whole", 0), set[int]()
    for last in np.linspace(1, operations, 9).astype(int).tolist():
        path = tmp_path / f"killed-at-{last}"
        reduce_in_child(path, last)
        status = open_run(path).status()
        states.add(status.steps_reduced)
        assert not status.data_lost
        assert lived(path) == before
        reduce_run(path, Keep(KEPT))
        run = open_run(path)
        assert run.status().steps_reduced == STEPS - KEPT
        assert not run.status().data_lost
        assert not [file for file in path.rglob(".*.parquet") if file.stat().st_size]
        assert run.trajectories["step"].min() == STEPS - KEPT
        for table in ("trajectories", "updates"):
            assert len(list((path / table).glob("*.parquet"))) <= KEPT
        assert lived(path) == before
        shutil.rmtree(path)
    assert len(states) > 2


def test_beside_a_writer_that_compacts_no_step_is_lost(
    tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    path = tmp_path / "run"
    receiving, sending = forkserver.Pipe(duplex=False)
    process = forkserver.Process(target=log_and_tell, args=(str(path), sending))
    process.start()
    sending.close()
    receiving.recv()
    reader = build_timeline(open_run(path))
    while process.is_alive():
        try:
            reduce_run(path, Keep(KEPT))
        except RetentionBusyError:
            continue
        reader.update()
        assert reader.frame["complete"].all()
    reduce_run(path, Keep(KEPT))
    reader.update()
    assert reader.frame["step"].to_list() == list(range(150))
    assert reader.lived == lived(path)
    assert not reader.run.status().data_lost
    assert not open_run(path).status().data_lost
    assert open_run(path).status().steps_reduced == 150 - KEPT


def test_a_sidecar_goes_on_whatever_happens_until_the_run_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    recorder = Recorder(path, segment_bytes=2_000)
    recorder.log_step(0, {"reward": [0.0, 1.0] * 10})
    command = [sys.executable, "-m", "mmhealth", "retain", str(path), "--keep-steps", "5"]
    (path / "reduced").write_text("not a folder")
    sidecar = subprocess.Popen(
        [*command, "--every", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for step in range(1, 100):
        recorder.log_step(step, {"reward": [float(step), 0.0] * 10})
    assert sidecar.stdout is not None
    assert sidecar.stderr is not None
    assert "the next round tries again" in sidecar.stderr.readline()
    (path / "reduced").unlink()
    assert "reduced" in sidecar.stdout.readline()
    assert sidecar.poll() is None
    for step in range(100, 110):
        recorder.log_step(step, {"reward": [float(step), 0.0] * 10})
    recorder.close()
    sidecar.communicate(timeout=60)
    assert sidecar.returncode == 0
    status = open_run(path).status()
    assert status.steps_reduced == 105
    assert status.steps_complete == 110
    assert not status.data_lost
