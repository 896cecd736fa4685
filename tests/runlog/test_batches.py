"""Rows stay on disk until somebody asks for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmhealth import Recorder, open_run
from mmhealth.runlog import batches, compact, segment

STEPS, ROWS = 60, 500


def write(path: Path, *, ranks: int = 1) -> Path:
    rng = np.random.default_rng(0)
    for rank in range(ranks):
        with Recorder(path, rank=rank, world_size=ranks, attempt=0, segment_bytes=200_000) as rec:
            for step in range(STEPS):
                columns = {"reward": rng.random(ROWS), "log_weight": rng.normal(size=ROWS)}
                rec.log_step(step, columns)
    return path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and a cache that are small beside the run."""
    monkeypatch.setattr(segment, "_GROUP_ROWS", 4 * ROWS)
    monkeypatch.setattr(batches, "CACHE_BYTES", 100_000)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("ranks", [1, 3])
def test_memory_does_not_grow_with_the_run(tmp_path: Path, ranks: int) -> None:
    path = write(tmp_path / "run", ranks=ranks)
    whole = open_run(path).trajectories.estimated_size()
    before = pa.total_allocated_bytes()
    run = open_run(path)
    most = 0
    for _ in run.tail():
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < whole / 3


@pytest.mark.usefixtures("small_pieces")
def test_rows_read_in_pieces_are_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "run", ranks=2)
    run = open_run(path)
    for data in run.tail():
        for name, frame in (("trajectories", data.trajectories), ("updates", data.updates)):
            whole = getattr(run, name)
            assert frame.equals(whole.filter(step=data.step))


def test_a_follower_lets_go_of_a_tail_that_is_sealed(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        for step in range(STEPS):
            rec.log_step(step, {"reward": np.full(ROWS, float(step))})
        follower = open_run(tmp_path / "run")
        assert len(follower.tail().keys) == STEPS
        before = pa.total_allocated_bytes()
    assert follower.tail().keys == []
    assert pa.total_allocated_bytes() < before - STEPS * ROWS * 8
    assert follower.trajectories["reward"].sum() == ROWS * sum(range(STEPS))


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    path.write_bytes(content)


@pytest.mark.parametrize(("harm", "reason"), [(Path.unlink, "is gone"), (damaged, "decoded")])
def test_a_segment_lost_after_it_was_found_is_named_and_its_steps_are_incomplete(
    tmp_path: Path, harm: Any, reason: str
) -> None:
    path = write(tmp_path / "run")
    run = open_run(path)
    assert not run.status().data_lost
    victim = sorted((path / "updates").glob("*.parquet"))[1]
    harm(victim)
    incomplete = {data.step for data in run.tail() if not data.complete}
    status = run.status()
    assert incomplete
    assert {item.step for item in status.incomplete} == incomplete
    [quarantined] = status.quarantined
    assert quarantined.file == f"updates/{victim.name}"
    assert reason in quarantined.reason
    assert set(run.updates["step"]) == set(range(STEPS)) - incomplete


def test_a_commit_that_cannot_be_read_any_more_leaves_nothing_of_its_step_known(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run"
    with Recorder(path) as rec:
        rec.log_step(0, {"reward": np.ones(8)}, {"kl_coef": 0.1}, log_ratios=np.ones(8))
    run = open_run(path)
    tail = run.tail()
    [file] = (path / "steps").glob("*.parquet")
    damaged(file)
    [data] = tail.steps
    assert (data.complete, data.commits_missing) == (False, 1)
    assert (data.scalars, data.histograms) == ({}, {})


def test_segments_merged_between_look_and_read_are_no_loss(tmp_path: Path) -> None:
    run = open_run(path := write(tmp_path / "run"))
    compact(path)
    assert all(data.complete for data in run.tail())
    assert not run.status().data_lost
