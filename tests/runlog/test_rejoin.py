"""A process goes on for one that died, in the same rank and attempt: nothing is lost or doubled."""

import json
import multiprocessing
import os
import pickle
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, RecorderHandle, open_run
from mmhealth.errors import RecordError
from mmhealth.runlog import rejoin

ROWS = 20


def row(step: int, life: int = 0) -> dict[str, Any]:
    return {"reward": [float(step)] * ROWS, "log_weight": [0.1] * ROWS, "life": [life] * ROWS}


def work_until_killed(handle: RecorderHandle, life: int, committed: Connection) -> None:
    """Log steps from the one before the last committed on, as fast as possible."""
    rec = handle.recorder()
    first = committed.recv()
    for step in range(first, 100_000):
        rec.log_step(step, row(step, life))
        committed.send(step)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejoin, "_PATIENCE_S", 0.0)


def live_once(handle: RecorderHandle, life: int, first: int, rng: random.Random) -> int:
    """Have a process log from ``first`` on, kill it, and return the last step it announced."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmhealth.runlog"])
    ours, theirs = context.Pipe()
    process = context.Process(target=work_until_killed, args=(handle, life, theirs))
    process.start()
    theirs.close()
    ours.send(first)
    last = int(ours.recv())
    for _ in range(rng.randrange(30)):
        last = int(ours.recv())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    try:
        while True:
            last = int(ours.recv())
    except (EOFError, OSError):
        return last


def test_one_rank_killed_again_and_again_in_one_attempt(tmp_path: Path) -> None:
    rng = random.Random(7)
    handle = RecorderHandle.issue(tmp_path / "run", world_size=2, segment_bytes=20_000)
    last = -1
    lives = []
    for life in range(8):
        begun = max(last, 0)
        last = live_once(handle.of(1), life, begun, rng)
        lives.append((begun, last))
    with handle.of(0).open() as other:
        for step in range(last + 1):
            other.log_step(step, row(step))
    run = open_run(tmp_path / "run")
    rows = run.trajectories
    assert set(rows.group_by("step", "rank").len()["len"]) == {ROWS}
    assert set(range(last + 1)) <= set(rows.filter(rank=1)["step"])
    assert (rows["reward"] == rows["step"]).all()
    status = run.status()
    assert not status.data_lost
    assert not status.quarantined
    assert status.steps_complete == last + 1
    assert [attempt.number for attempt in status.attempts] == [0]
    # A step that was committed and logged again stands as it was committed first: by the life that
    # announced it first, or by one before that died between commit and announcement.
    for begun, _ in lives[1:]:
        announced = next(life for life, (first, end) in enumerate(lives) if first <= begun <= end)
        assert rows.filter(rank=1, step=begun)["life"].max() <= announced
    assert json.loads((tmp_path / "run/writers/1-0.json").read_text())["rejoined"] == 7


def test_while_the_process_lives_no_other_can_take_its_place(
    tmp_path: Path, patience: None
) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=1)
    with handle.of(0).open() as rec:
        for _ in range(2):
            with pytest.raises(RecordError, match="rank 0 of attempt 0 is being recorded"):
                handle.of(0).open()
            rec.log_step(0, row(0))
    with Recorder(tmp_path / "other", attempt=3) as rec:
        rec.log_step(0, row(0))
        with pytest.raises(RecordError, match="give each process a rank of its own"):
            Recorder(tmp_path / "other", attempt=3, rejoin=True)


def test_a_closed_recorder_can_be_gone_on_with(tmp_path: Path) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=1, start_step=2).of(0)
    with handle.open() as rec:
        rec.log_step(2, row(2))
        rec.log_step(2, row(2))
        rec.log_event(2, "checkpoint")
    with handle.open() as rec:
        rec.log_step(3, row(3))
        rec.log_event(3, "checkpoint")
        about = json.loads((tmp_path / "run/writers/0-0.json").read_text())
        assert "closed" not in about
        assert about["start_step"] == 2
        losses = {loss["kind"]: loss["count"] for loss in rec.summary()["losses"]}
        assert losses == {"duplicate_commit": 1}
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [2, 3]
    assert run.events["step"].to_list() == [2, 3]
    about = json.loads((tmp_path / "run/writers/0-0.json").read_text())
    assert about["steps"] == 2
    assert about["rows"]["trajectories"] == 2 * ROWS
    assert about["last_seq"] == {"trajectories": 1, "updates": 1, "steps": 1, "events": 1}


@pytest.mark.parametrize("strict", [False, True])
def test_a_step_that_is_logged_once_more_is_no_loss(tmp_path: Path, strict: bool) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=1, strict=strict).of(0)
    for life in range(2):
        with handle.open() as rec:
            rec.log_step(0, row(0, life))
    run = open_run(tmp_path / "run")
    assert run.trajectories["life"].to_list() == [0] * ROWS
    assert [loss.kind for loss in run.status().losses] == ["repeated_step"]
    assert not run.status().data_lost


def test_what_cannot_be_read_of_the_dead_does_not_stop_the_living(tmp_path: Path) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=1).of(0)
    with handle.open() as rec:
        rec.log_step(0, row(0))
    (tmp_path / "run/writers/0-0.json").write_text("[")
    for table in ("steps", "updates"):
        [segment] = (tmp_path / "run" / table).glob("*.parquet")
        segment.write_bytes(segment.read_bytes()[:-50])
    with handle.open() as rec:
        rec.log_step(1, row(1))
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1]
    assert len(run.status().quarantined) == 2


def test_a_handle_can_be_sent_and_gives_the_same_recorder(tmp_path: Path) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=3, loss_ratio="token")
    sent = pickle.loads(pickle.dumps(handle.ranks()))
    assert sent == handle.ranks()
    assert [share.rank for share in sent] == [0, 1, 2]
    rec = handle.recorder(2)
    assert sent[2].recorder() is rec
    rec.close()
    again = sent[2].recorder()
    assert again is not rec
    again.close()
    assert open_run(tmp_path / "run").loss_ratio == "token"
    assert RecorderHandle.issue(tmp_path / "run", world_size=3).attempt == 1


def test_handles_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    handle = RecorderHandle.issue(tmp_path / "run", world_size=2)
    with pytest.raises(RecordError, match="which rank"):
        handle.recorder()
    with pytest.raises(RecordError, match="which rank"):
        handle.open()
    with pytest.raises(RecordError, match="rank 2 is not one of world_size 2"):
        handle.recorder(2)
    with pytest.raises(RecordError, match="rank: the handle says that itself"):
        RecorderHandle.issue(tmp_path / "run", world_size=2, rank=1)
    for url in ("s3://bucket/run", Path("gs://bucket/run"), "s3://bucket"):
        for begin in (Recorder, RecorderHandle.issue):
            with pytest.raises(RecordError, match=r"is a URL.* upload=URL"):
                begin(url, world_size=1)
    with pytest.raises(RecordError, match="los_ratio: no keyword of Recorder"):
        RecorderHandle.issue(tmp_path / "run", world_size=2, los_ratio="token")
    with pytest.raises(RecordError, match="say which attempt"):
        Recorder(tmp_path / "run", rejoin=True)


def test_a_file_that_is_listed_and_gone_hides_no_other(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Recorder(run, attempt=0, rejoin=True) as rec:
        for step in range(3):
            rec.log_step(step, row(step))
    gone = run / "steps" / "0-0-000000000-000000000-00000000.parquet"  # listed before the others
    gone.symlink_to(run / "nowhere")
    with Recorder(run, attempt=0, rejoin=True) as rec:
        for step in range(2, 5):
            rec.log_step(step, row(step, life=1))
    found = open_run(run)
    assert found.steps["step"].to_list() == [0, 1, 2, 3, 4]
    assert found.trajectories["life"].to_list() == [0] * 3 * ROWS + [1] * 2 * ROWS
