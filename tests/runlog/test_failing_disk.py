"""Disks that are full, gone or slow, as real processes meet them."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import RecordError


def losses(path: Path) -> dict[str, int]:
    return {loss.kind: loss.count for loss in open_run(path).status().losses}


def test_a_full_disk_costs_rows_but_neither_the_run_nor_what_was_committed(tmp_path: Path) -> None:
    """The kernel refuses writes beyond a file size; then it allows them again."""
    code = f"""
import resource, signal
from mmhealth import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rec = Recorder({str(tmp_path / "run")!r})
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for step in range(30):
    if step == 10:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, unlimited[1]))
    if step == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    rec.log_step(step, {{"reward": [float(step)] * 200}})
rec.close()
print("training went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert "training went on" in done.stdout
    assert "Way out: free space" in done.stderr
    run = open_run(tmp_path / "run")
    kept = run.trajectories["step"].unique(maintain_order=True).to_list()
    assert set(range(10)) | set(range(20, 30)) <= set(kept) < set(range(30))
    assert run.trajectories.shape[0] == 200 * len(kept)
    assert losses(tmp_path / "run") == {"write": 30 - len(kept)}
    assert run.status().data_lost
    assert not run.status().quarantined


def test_an_unwritable_path_does_not_stop_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with caplog.at_level(logging.WARNING, "mmhealth"), Recorder(blocked / "run") as rec:
        rec.log_step(0, {"reward": [1.0]})
        rec.log_evaluation(0, episodes=1, successes=1)
    assert rec.summary()["losses"][0]["kind"] == "write"
    assert "NotADirectoryError" in caplog.text
    with pytest.raises(RecordError):
        Recorder(blocked / "run", strict=True)


def test_a_removed_directory_is_noticed_and_recording_goes_on(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        for step in range(6):
            if step == 3:
                shutil.rmtree(tmp_path / "run")
            rec.log_step(step, {"reward": [1.0]})
    run = open_run(tmp_path / "run")
    assert run.trajectories["step"].to_list() == [3, 4, 5]
    assert losses(tmp_path / "run") == {"run_removed": 1}
    assert run.status().batches_missing == 6


def test_a_write_over_its_time_budget_lets_training_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "mmhealth"),
        Recorder(tmp_path / "run", time_budget=0.05) as rec,
    ):
        rec.log_step(0, {"reward": [1.0]})
        with hanging_disk(tmp_path / "run"):
            for step in range(1, 4):
                rec.log_step(step, {"reward": [1.0] * 20_000})
        assert {loss["kind"] for loss in rec.summary()["losses"]} == {"over_budget"}
        assert rec.summary()["losses"][0]["count"] == 3
    assert "took over 0.05 s" in caplog.text
    assert losses(tmp_path / "run")["over_budget"] == 3
    assert {2, 3} <= set(open_run(tmp_path / "run").trajectories["step"].to_list())


def test_a_backlog_is_bounded(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", time_budget=0.01) as rec:
        rec.log_step(0, {"reward": [1.0]})
        with hanging_disk(tmp_path / "run"):
            for step in range(1, 100):
                rec.log_step(step, {"reward": [1.0] * 20_000})
        counts = {loss["kind"]: loss["count"] for loss in rec.summary()["losses"]}
        assert counts["queue_full"] >= 99 - 64 - 2


@contextmanager
def hanging_disk(run_dir: Path) -> Iterator[None]:
    """A pipe that nobody reads stands in for the tail's file: writing to it blocks for real.

    Afterwards the pipe is read empty, so that what hangs can end.
    """
    [tail] = (run_dir / "trajectories").glob("*.arrows")
    descriptor = _descriptor_of(tail)
    reading, writing = os.pipe()
    original = os.dup(descriptor)
    os.dup2(writing, descriptor)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(original, descriptor)
        os.close(original)
        threading.Thread(target=_drain, args=(reading,), daemon=True).start()


def _descriptor_of(path: Path) -> int:
    """The descriptor under which this process holds a file open."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink() == path:
                return int(entry.name)
        except FileNotFoundError:
            continue
    raise AssertionError(f"{path} is not open")


def _drain(reading: int) -> None:
    while os.read(reading, 1 << 20):
        pass
    os.close(reading)
