"""One test for each bug that was found; the first line of each says what went wrong."""

import errno
import fcntl
import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmhealth import Recorder, open_run
from mmhealth.errors import RecordError
from mmhealth.health import build_timeline
from mmhealth.runlog import recording_attempts, seal_orphans


def log(path: Path, steps: int, **options: Any) -> None:
    with Recorder(path, **options) as rec:
        for step in range(steps):
            rec.log_step(step, {"reward": [1.0] * 8, "advantage": [0.5] * 8})


def abandon(path: Path, steps: int) -> None:
    """A run whose writer died: tails, no segments, no lock."""
    living = path.with_name("living")
    with Recorder(living) as rec:
        for step in range(steps):
            rec.log_step(step, {"reward": [1.0] * 8, "advantage": [0.5] * 8})
        shutil.copytree(living, path)


@pytest.mark.parametrize(
    "late",
    [
        {"trajectory_id": 3.5},
        {"trajectory_id": None},
        {"arrived_step": None},
        {"value": None},
        {"value": "much"},
        {"column": None},
    ],
)
def test_a_bad_late_value_made_the_run_unreadable(tmp_path: Path, late: dict[str, Any]) -> None:
    good = {"trajectory_id": 0, "column": "reward", "value": 1.0, "arrived_step": 3}
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [None, 2.0]})
        arguments: dict[str, Any] = good | late
        rec.amend(0, **arguments)
    run = open_run(tmp_path)
    assert build_timeline(run).frame["reward"][0] == 2.0
    assert [loss.kind for loss in run.status().losses] == ["amendment"]


def test_late_values_that_fit_no_trajectory_vanished_silently(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [None, 2.0]})
        rec.amend(0, 7, "reward", 1.0, arrived_step=3)
        rec.amend(0, "abc", "reward", 1.0, arrived_step=3)
        rec.amend(0, 0, "reward", 1.0, arrived_step=3)
    run = open_run(tmp_path)
    assert run.trajectories["reward"].to_list() == [1.0, 2.0]
    assert run.status().amendments_unmatched == 2
    assert run.status().data_lost


def test_late_values_of_one_attempt_filled_rows_of_another(tmp_path: Path) -> None:
    for start in (0, 2):
        with Recorder(tmp_path, start_step=start) as rec:
            for step in range(start, 4):
                rec.log_step(step, {"reward": [None]})
            for step in (1, 3):
                rec.amend(step, 0, "reward", 10.0 * start + step, arrived_step=5)
    follower = open_run(tmp_path)
    rewards = {
        (data.attempt, data.step): data.trajectories["reward"].to_list()
        for data in follower.tail().steps
    }
    assert rewards == {
        (0, 0): [None],
        (0, 1): [21.0],
        (0, 2): [None],
        (0, 3): [3.0],
        (1, 2): [None],
        (1, 3): [23.0],
    }
    assert follower.trajectories["reward"].to_list() == [None, 21.0, None, 23.0]


@pytest.mark.parametrize(
    "options",
    [
        {"start_step": "abc"},
        {"start_step": 1.5},
        {"attempt": -1},
        {"rank": "0"},
        {"time_budget": None},
        {"time_budget": 0},
        {"config": {(1, 2): 3}},
    ],
)
def test_arguments_that_cannot_be_meant_were_written_to_the_run(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(RecordError):
        Recorder(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_tensor_from_a_checkpoint_is_a_start_step(tmp_path: Path) -> None:
    log(tmp_path, 3, start_step=torch.tensor(0), time_budget=float("inf"))
    status = open_run(tmp_path).status()
    assert status.attempts[0].start == 0
    assert not status.losses


def test_a_damaged_writers_file_was_skipped_silently_or_raised(tmp_path: Path) -> None:
    log(tmp_path, 2)
    for content in ("[]", "{", '{"start_step": "x"}'):
        (tmp_path / "writers" / "0-0.json").write_text(content)
        status = open_run(tmp_path).status()
        assert [item.file for item in status.quarantined] == ["writers/0-0.json"]
        assert status.steps_complete == 2


def test_a_damaged_header_hid_a_whole_table_and_sealing_deleted_it(tmp_path: Path) -> None:
    abandon(tmp_path / "run", 8)
    [tail] = (tmp_path / "run" / "steps").iterdir()
    content = bytearray(tail.read_bytes())
    content[6] ^= 1
    tail.write_bytes(content)
    assert [item.file for item in open_run(tmp_path / "run").status().quarantined] == [
        f"steps/{tail.name}"
    ]
    seal_orphans(tmp_path / "run")
    assert tail.with_name(tail.name + ".damaged").read_bytes() == content
    assert open_run(tmp_path / "run").status().data_lost


def test_a_damaged_length_hid_all_later_steps(tmp_path: Path) -> None:
    abandon(tmp_path / "run", 8)
    [tail] = (tmp_path / "run" / "steps").iterdir()
    content = bytearray(tail.read_bytes())
    content[content.index(b"bytes=") + 6] ^= 1
    tail.write_bytes(content)
    run = open_run(tmp_path / "run")
    assert run.steps["step"].to_list() == list(range(1, 8))
    assert run.status().data_lost


@pytest.mark.parametrize("table", ["trajectories", "steps"])
@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_tail_of_a_dead_writer_was_no_loss(
    tmp_path: Path, table: str, keep: float
) -> None:
    abandon(tmp_path / "run", 8)
    [tail] = (tmp_path / "run" / table).iterdir()
    os.truncate(tail, int(keep * tail.stat().st_size))
    assert open_run(tmp_path / "run").status().data_lost


def test_the_rest_of_a_batch_whose_writer_died_is_shown_but_is_no_loss(tmp_path: Path) -> None:
    abandon(tmp_path / "run", 8)
    [tail] = (tmp_path / "run" / "trajectories").iterdir()
    with tail.open("ab") as file:
        file.write(tail.read_bytes()[:8])
    status = open_run(tmp_path / "run").status()
    assert status.cut_off == {f"trajectories/{tail.name}": 8}
    assert not status.data_lost
    assert "ends within a batch" in " ".join(status.describe_losses())


@pytest.mark.parametrize("tables", [("updates",), ("steps",), ("trajectories", "updates", "steps")])
def test_segments_missing_at_the_end_were_not_noticed(
    tmp_path: Path, tables: tuple[str, ...]
) -> None:
    with Recorder(tmp_path, segment_bytes=5_000) as rec:
        for step in range(30):
            rec.log_step(step, {"reward": [1.0] * 30, "advantage": [0.5] * 30})
    for table in tables:
        sorted((tmp_path / table).iterdir())[-1].unlink()
    status = open_run(tmp_path).status()
    assert status.batches_missing > 0
    assert status.data_lost


def test_injected_rows_counted_as_sampled_when_the_update_named_no_role(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec, rec.step(0) as s:
        s.add({"reward": [1.0] * 2})
        s.add({"reward": [1.0] * 2}, role="injected")
        s.update({"grad_norm": [1.0, 2.0, 3.0, 4.0]})
        s.update({"trajectory_id": [3, 0], "grad_norm": [3.0, 4.0]}, update=1)
    roles = open_run(tmp_path).updates["role"].to_list()
    assert roles == ["used", "used", "injected", "injected", "injected", "used"]


def test_a_null_role_lost_the_step(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [1.0, 2.0], "role": ["replaced", None]})
    assert open_run(tmp_path).trajectories["role"].to_list() == ["replaced", "used"]


def test_missing_ids_made_the_run_unreadable(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [1.0, 2.0], "trajectory_id": [None, None], "log_weight": 0.5})
    run = open_run(tmp_path)
    assert build_timeline(run).frame["ess_weight"].to_list() == [1.0]
    assert run.trajectories["trajectory_id"].to_list() == [0, 1]
    assert [loss.kind for loss in run.status().losses] == ["column"]


def test_masked_arrays_lost_their_mask(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": np.ma.masked_array([1.0, 9.0], mask=[False, True])})
    assert open_run(tmp_path).trajectories["reward"].to_list() == [1.0, None]


def test_a_run_removed_before_its_first_step_was_never_made_again(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        shutil.rmtree(tmp_path / "run")
        rec.log_step(0, {"reward": [1.0]})
    run = open_run(tmp_path / "run")
    assert run.status().steps_complete == 1
    kinds = [loss.kind for loss in run.status().losses]
    assert kinds[-1] == "run_removed"
    # The search for tails of an earlier process may have found the folder going: it says so.
    assert kinds[:-1] in ([], ["write"])


def test_a_folder_with_the_name_of_a_segment_raised(tmp_path: Path) -> None:
    log(tmp_path, 2)
    (tmp_path / "steps" / "0-0-000000009-000000009-00000000.parquet").mkdir()
    (tmp_path / "steps" / "0-0-000000008.open.arrows").mkdir()
    status = open_run(tmp_path).status()
    assert len(status.quarantined) == 2
    assert status.steps_complete == 2


def test_events_of_many_threads_were_lost_when_sealed_out_of_order(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        threads = [
            threading.Thread(target=lambda: [rec.log_event(0, "note") for _ in range(30)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    run = open_run(tmp_path)
    assert len(run.events) == 120
    assert not run.status().data_lost


def test_a_burst_of_late_values_overran_the_queue(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [None] * 500})
        for row in range(500):
            rec.amend(0, row, "reward", float(row), arrived_step=1)
    run = open_run(tmp_path)
    assert run.trajectories["reward"].to_list() == [float(row) for row in range(500)]
    assert not run.status().losses


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EBADF])
def test_file_systems_without_locks_or_links_recorded_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Stands in for the operating system, which cannot be made to refuse these here."""

    def refuse(number: int, *_: Any) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr("fcntl.flock", partial(refuse, number))
    monkeypatch.setattr("os.link", partial(refuse, errno.ENOTSUP))
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [1.0]})
        assert seal_orphans(tmp_path) == []
        rec.log_step(1, {"reward": [1.0]})
    run = open_run(tmp_path)
    assert run.status().steps_complete == 2
    assert not run.status().losses
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == run.id


def test_on_nfs_locks_need_the_mode_that_they_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for NFS: an exclusive lock needs a mode for writing, a shared one for reading."""
    flock, wrong = fcntl.flock, {fcntl.LOCK_EX: os.O_RDONLY, fcntl.LOCK_SH: os.O_WRONLY}

    def of_nfs(descriptor: int, operation: int) -> None:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == wrong[operation & ~fcntl.LOCK_NB]:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", of_nfs)
    abandon(tmp_path / "dead", 3)
    tails = set((tmp_path / "dead").rglob("*.open.arrows"))
    assert recording_attempts(tmp_path / "dead") == []
    assert set(seal_orphans(tmp_path / "dead")) == tails != set()
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": [1.0]})
        assert recording_attempts(tmp_path / "run") == [0]
        assert seal_orphans(tmp_path / "run") == []


def test_a_tail_whose_writer_died_before_naming_it_stayed_for_ever(tmp_path: Path) -> None:
    abandon(tmp_path / "run", 3)
    [tail] = (tmp_path / "run" / "steps").iterdir()
    dead = tail.with_name(".0-0-000000009.open.arrows")
    begun = tail.with_name(".0-0-000000010.open.arrows")
    living = tail.with_name(".0-0-000000011.open.arrows")
    begun.touch()
    for path in (dead, living):
        path.write_bytes(tail.read_bytes()[:300])
    with living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        seal_orphans(tmp_path / "run")
    assert [path.exists() for path in (dead, begun, living)] == [False, True, True]
    assert open_run(tmp_path / "run").status().steps_complete == 3
