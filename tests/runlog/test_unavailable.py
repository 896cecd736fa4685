"""Files that cannot be had for a while are tried again, and what is damaged stays damaged."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mmhealth import Recorder, RecorderHandle, open_run
from mmhealth.errors import RunUnavailableError
from mmhealth.runlog import compact
from mmhealth.schema import TABLES

STEPS, ROWS = 12, 200


def write(path: Path, first: int = 0, steps: int = STEPS) -> Path:
    handle = RecorderHandle.issue(path, world_size=1, segment_bytes=4_000)
    with handle.of(0).open() as rec:
        for step in range(first, first + steps):
            rec.log_step(step, {"reward": np.full(ROWS, float(step)), "log_weight": np.zeros(ROWS)})
    return path


@contextmanager
def out_of_reach(file: Path) -> Iterator[None]:
    """A name that cannot be opened, though it is listed."""
    kept = file.rename(file.parent.parent / f"{file.name}.kept")
    file.symlink_to(file)
    yield
    file.unlink()
    kept.rename(file)


@pytest.mark.parametrize("table", ["steps", "updates"])
def test_a_segment_that_cannot_be_opened_is_tried_again(tmp_path: Path, table: str) -> None:
    path = write(tmp_path / "run")
    file = sorted((path / table).glob("*.parquet"))[1]
    with out_of_reach(file):
        run = open_run(path)
        first = run.tail()
        status = run.status()
        assert [item.file for item in status.unfetched] == [f"{table}/{file.name}"]
        assert "cannot be read just now" in status.unfetched[0].reason
        assert not status.quarantined
        assert status.data_lost
    again = run.tail()
    assert {data.step for tail in (first, again) for data in tail} == set(range(STEPS))
    assert all(data.complete for data in again)
    status = run.status()
    assert (status.steps_complete, status.unfetched, status.data_lost) == (STEPS, [], False)


def test_rows_that_cannot_be_read_are_read_later(tmp_path: Path) -> None:
    run = open_run(path := write(tmp_path / "run"))
    file = min((path / "trajectories").glob("*.parquet"))
    with out_of_reach(file):
        with pytest.raises(RunUnavailableError, match=rf"{file.name} cannot be read just now"):
            run.step_data(0)
        assert not run.status().quarantined
    data = run.step_data(0)
    assert data is not None
    assert data.complete


NO_FILES_LEFT = """
import os, resource, sys
from mmhealth import open_run
from mmhealth.errors import RunUnavailableError

run = open_run(sys.argv[1])
run.step_data(0)
limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
print(run.refresh(), sorted(item.file for item in run.status().unfetched), run.closed)
print(run.status().cut_off)
try:
    run.step_data(11)
except RunUnavailableError as error:
    print("Too many open files" in str(error))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
print(run.refresh(), run.status().data_lost, run.status().quarantined, run.closed)
print(all(data.complete for data in run.tail()), run.status().steps_complete)
"""


def test_a_process_without_file_descriptors_left_loses_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "run")
    (path / "events" / "0-0-000000000.open.arrows").write_bytes(b"\xff\xff")
    done = subprocess.run(
        [sys.executable, "-c", NO_FILES_LEFT, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    tables = sorted((*TABLES, "reduced", "writers"))
    assert done.stdout.splitlines() == [
        f"False {tables} False",
        "{}",
        "True",
        "False False [] True",
        f"True {STEPS}",
    ]


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, damaged])
@pytest.mark.parametrize("table", ["steps", "trajectories"])
def test_what_a_lost_segment_held_is_found_in_smaller_ones(
    tmp_path: Path, harm: Callable[[Path], None], table: str
) -> None:
    path = write(tmp_path / "run")
    run = open_run(path)
    expected = run.trajectories
    # A compaction that was killed when it had written the big segment, and removed no small one.
    shutil.copytree(path, tmp_path / "other")
    compact(tmp_path / "other")
    [file] = (tmp_path / "other" / table).iterdir()
    big = Path(shutil.copy(file, path / table))
    run.refresh()
    harm(big)
    assert all(data.complete for data in run.tail())
    assert run.trajectories.equals(expected)
    status = run.status()
    assert (status.steps_complete, status.rows_read) == (STEPS, STEPS * ROWS)
    named = [f"{table}/{big.name}"] if harm is damaged else []
    assert [item.file for item in status.quarantined] == named


def test_a_segment_that_was_gone_and_is_back_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "run")
    run = open_run(path)
    file = min((path / "trajectories").glob("*.parquet"))
    kept = file.rename(tmp_path / "kept")
    assert not all(data.complete for data in run.tail())
    assert run.status().quarantined
    kept.rename(file)
    run.refresh()
    assert not run.status().data_lost
    data = run.step_data(0)
    assert data is not None
    assert data.complete


def test_a_tail_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": np.ones(ROWS)})
        run = open_run(tmp_path / "run")
        run.tail()
        rec.log_step(1, {"reward": np.ones(ROWS)})
        [file] = (tmp_path / "run" / "trajectories").iterdir()
        with out_of_reach(file):
            assert run.tail().keys == []
            assert [item.file for item in run.status().unfetched] == [f"trajectories/{file.name}"]
        assert [key.step for key in run.tail().keys] == [1]
        assert not run.status().data_lost
