"""A run that is recorded is brought to an S3 server, whatever happens to either."""

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmhealth import Recorder, open_run
from mmhealth.cli import app
from mmhealth.errors import ObjectStoreRefusedError, RecordError
from mmhealth.place import run_place
from mmhealth.runlog import Run, compact, upload_run
from mmhealth.schema import TABLES


def record(path: Path, batch: Any, steps: range, *, pause: float = 0.0, **more: Any) -> Recorder:
    recorder = Recorder(path, nominal_batch=64, **more)
    for step in steps:
        recorder.log_step(step, batch(step))
        time.sleep(pause)
    return recorder


def same(url: str, run_dir: Path) -> bool:
    remote, local = open_run(url), open_run(run_dir)
    tables = all(getattr(remote, name).equals(getattr(local, name)) for name in TABLES)
    return tables and remote.status() == local.status()


def poll_until(run_url: str, steps: int) -> Run:
    for _ in range(200):
        try:
            run = open_run(run_url)
        except Exception:  # noqa: BLE001 - it has not begun
            run = None
        if run is not None and run.status().steps_complete >= steps:
            return run
        time.sleep(0.05)
    raise AssertionError(f"never saw {steps} steps")


def test_a_reader_of_the_url_follows_the_recorder(store: Any, tmp_path: Path, batch: Any) -> None:
    recorder = record(
        tmp_path / "run", batch, range(10), pause=0.01, upload=store.url, seal_every=0.02
    )
    run = poll_until(store.url, 4)
    assert not run.status().data_lost
    recorder.close()
    assert recorder.summary()["losses"] == []
    assert same(store.url, tmp_path / "run")


def test_merged_segments_replace_the_small_ones_there_too(
    store: Any, tmp_path: Path, batch: Any
) -> None:
    run_dir = tmp_path / "run"
    record(run_dir, batch, range(12), segment_bytes=4_000, upload=store.url).close()
    reader = open_run(store.url)
    url = run_place(store.url)
    compact(run_dir)
    done = upload_run(run_dir, url)
    assert done.removed > 5
    here = {f"{p.parent.name}/{p.name}" for t in TABLES for p in (run_dir / t).glob("*.parquet")}
    assert done.sent == len(here) - done.present
    assert same(store.url, run_dir)
    assert reader.trajectories.equals(open_run(run_dir).trajectories)
    assert not reader.status().data_lost
    assert upload_run(run_dir, url).sent == 0


def test_a_store_that_fails_now_and_then_gets_everything(
    store: Any, tmp_path: Path, batch: Any
) -> None:
    faults = itertools.cycle([None, "503", None, "slow", None, "drop"])
    store.fault = lambda *_: next(faults)
    run_dir = tmp_path / "run"
    record(run_dir, batch, range(8), upload=store.url, seal_every=0.001).close()
    store.fault = lambda *_: None
    assert same(store.url, run_dir)


def test_a_store_that_refuses_harms_nothing_and_the_rest_is_sent_later(
    store: Any, tmp_path: Path, batch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.fault = lambda *_: "403"
    run_dir = tmp_path / "run"
    recorder = record(run_dir, batch, range(8), upload=store.url)
    recorder.close()
    [loss] = recorder.summary()["losses"]
    assert loss["kind"] == "upload"
    assert "mmhealth upload" in loss["way_out"]
    assert len(caplog.records) == 1
    status = open_run(run_dir).status()
    assert status.steps_complete == 8
    assert not status.data_lost
    assert any("upload" in line for line in status.describe_losses())
    store.fault = lambda *_: None
    told = CliRunner().invoke(app, ["upload", str(run_dir), store.url])
    assert told.exit_code == 0, told.output
    assert "3 segments sent" in told.output
    assert same(store.url, run_dir)


def test_a_store_that_comes_back_gets_the_rest_while_recording_goes_on(
    store: Any, tmp_path: Path, batch: Any
) -> None:
    store.fault = lambda *_: "403"
    recorder = record(tmp_path / "run", batch, range(4), upload=store.url, seal_every=0.001)
    for _ in range(200):
        if recorder.summary()["losses"]:
            break
        time.sleep(0.02)
    store.fault = lambda *_: None
    assert poll_until(store.url, 3)
    recorder.close()
    assert same(store.url, tmp_path / "run")


_DYING = """
import sys, time
sys.path.insert(0, "tests")
from mmhealth import Recorder
recorder = Recorder(sys.argv[1], upload=sys.argv[2], seal_every=0.05)
for step in range(10_000):
    recorder.log_step(step, {"reward": [float(step)] * 8, "advantage": [1.0] * 8})
    time.sleep(0.01)
    print(step, flush=True)
"""


def test_a_killed_process_leaves_whole_objects_and_the_next_attempt_sends_the_rest(
    store: Any, tmp_path: Path, child_environment: dict[str, str], batch: Any
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", _DYING, str(run_dir), store.url]
    with subprocess.Popen(command, env=child_environment, stdout=subprocess.PIPE) as child:
        poll_until(store.url, 5)
        child.send_signal(signal.SIGKILL)
    killed = open_run(store.url).status()
    assert killed.steps_complete >= 5
    assert not killed.data_lost
    before = open_run(run_dir).status().steps_complete
    start = before - 2
    recorder = record(
        run_dir, batch, range(start, before + 3), upload=store.url, attempt=1, start_step=start
    )
    recorder.close()
    assert same(store.url, run_dir)
    assert open_run(store.url).status().steps_complete == before + 3


_LEAVING = """
import sys
from mmhealth import Recorder
recorder = Recorder(sys.argv[1], upload=sys.argv[2])
for step in range(5):
    recorder.log_step(step, {"reward": [1.0] * 8})
"""


def test_a_process_that_forgets_to_close_ends_cleanly_with_everything_sent(
    store: Any, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", _LEAVING, str(tmp_path / "run"), store.url]
    done = subprocess.run(
        command, env=child_environment, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert same(store.url, tmp_path / "run")


def test_another_run_is_never_written_over(store: Any, tmp_path: Path, batch: Any) -> None:
    record(tmp_path / "one", batch, range(3), upload=store.url).close()
    record(tmp_path / "two", batch, range(4)).close()
    url = run_place(store.url)
    with pytest.raises(ObjectStoreRefusedError, match="another run"):
        upload_run(tmp_path / "two", url)
    assert same(store.url, tmp_path / "one")


def test_a_place_that_is_no_url_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="upload"):
        Recorder(tmp_path / "run", upload=str(tmp_path / "elsewhere"))
    with pytest.raises(RecordError, match="names no run"):
        Recorder(tmp_path / "run", upload="s3://bucket")
    told = CliRunner().invoke(app, ["upload", str(tmp_path), str(tmp_path)])
    assert told.exit_code == 2
    assert "no object store" in told.output
