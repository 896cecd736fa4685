"""Few big segments of many small ones: the run reads the same, whatever happens meanwhile."""

import multiprocessing
import os
import random
import shutil
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from mmhealth import Recorder, open_run
from mmhealth.cli import app
from mmhealth.runlog import Run, compact
from mmhealth.schema import TABLES

STEPS = 40


def write(path: Path, batch: Any, *, rank: int = 0, world_size: int = 1, attempt: int = 0) -> None:
    with Recorder(
        path, rank=rank, world_size=world_size, attempt=attempt, segment_bytes=4_000
    ) as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step), {"loss": float(step)})
            if step % 10 == 0:
                rec.log_evaluation(step, episodes=10, successes=step % 7)
                rec.amend(step, 3, "reward", 5.0, arrived_step=step + 1)


@pytest.fixture
def run_dir(tmp_path: Path, batch: Any) -> Path:
    """A run of many small segments."""
    write(tmp_path / "run", batch)
    assert len(segments(tmp_path / "run")) > 20
    return tmp_path / "run"


def segments(run_dir: Path) -> list[Path]:
    return sorted(path for table in TABLES for path in (run_dir / table).glob("[0-9]*.parquet"))


def content(run: Run) -> dict[str, pl.DataFrame]:
    names = ("trajectories", "updates", "steps", "evaluations", "amendments", "events")
    return {name: getattr(run, name) for name in names}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[name].equals(other[name]) for name in one)


def test_a_compacted_run_reads_the_same(run_dir: Path) -> None:
    before, status = content(open_run(run_dir)), open_run(run_dir).status()
    small = segments(run_dir)
    done = compact(run_dir)
    tables = {path.parent for path in small}
    assert len(segments(run_dir)) == len(tables)
    assert done.merged == len(small) - sum(1 for path in small if path.exists())
    assert same(before, content(open_run(run_dir)))
    assert open_run(run_dir).status() == status
    assert compact(run_dir).merged == 0


def test_segments_grow_to_the_size_asked_for(run_dir: Path) -> None:
    before = content(open_run(run_dir))
    compact(run_dir, target_bytes=15_000)
    sizes = [path.stat().st_size for path in sorted((run_dir / "updates").glob("*.parquet"))]
    assert len(sizes) > 2
    assert all(size < 30_000 for size in sizes)
    assert same(before, content(open_run(run_dir)))


def test_ranks_and_attempts_are_never_mixed(tmp_path: Path, batch: Any) -> None:
    for attempt in (0, 1):
        for rank in (0, 1):
            write(tmp_path / "run", batch, rank=rank, world_size=2, attempt=attempt)
    before = content(open_run(tmp_path / "run"))
    compact(tmp_path / "run")
    writers = {path.name[:3] for path in (tmp_path / "run" / "updates").glob("*.parquet")}
    assert writers == {"0-0", "1-0", "0-1", "1-1"}
    assert len(list((tmp_path / "run" / "updates").glob("*.parquet"))) == 4
    assert same(before, content(open_run(tmp_path / "run")))


def test_columns_that_change_are_not_merged_into_one_segment(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", segment_bytes=1) as rec:
        for step in range(20):
            more = {"entropy": [0.5, 0.25]} if step >= 10 else {}
            rec.log_step(step, {"reward": [0.0, 1.0], **more})
    before = content(open_run(tmp_path / "run"))
    compact(tmp_path / "run")
    assert len(list((tmp_path / "run" / "trajectories").glob("*.parquet"))) == 2
    assert same(before, content(open_run(tmp_path / "run")))


def test_a_damaged_segment_is_left_where_it_is_and_named(run_dir: Path) -> None:
    victim = sorted((run_dir / "updates").glob("*.parquet"))[3]
    victim.write_bytes(victim.read_bytes()[:-100])
    before, status = content(open_run(run_dir)), open_run(run_dir).status()
    done = compact(run_dir)
    assert victim.exists()
    assert list(done.left) == [f"updates/{victim.name}"]
    assert same(before, content(open_run(run_dir)))
    assert open_run(run_dir).status() == status


def test_a_reader_that_was_there_before_reads_on(run_dir: Path) -> None:
    reader, before = open_run(run_dir), content(open_run(run_dir))
    first = reader.tail().keys
    compact(run_dir)
    assert not reader.refresh()
    assert reader.tail().keys == []
    assert len(first) == STEPS
    assert same(before, content(reader))


def test_a_reader_in_the_middle_of_a_pass_finds_the_rows_that_moved(run_dir: Path) -> None:
    expected = {data.step: data.updates for data in open_run(run_dir).tail()}
    seen = {}
    for number, data in enumerate(open_run(run_dir).tail()):
        if number == 2:
            compact(run_dir, target_bytes=10_000)
        if number == STEPS // 2:
            compact(run_dir)
        seen[data.step] = data.updates
        assert data.complete
    assert expected.keys() == seen.keys()
    assert all(expected[step].equals(seen[step]) for step in expected)


def test_the_recorder_compacts_by_policy(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", segment_bytes=4_000, compact_segments=6) as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step))
    assert len(list((tmp_path / "run" / "updates").glob("*.parquet"))) < 6
    write(tmp_path / "plain", batch)
    assert open_run(tmp_path / "run").updates.equals(open_run(tmp_path / "plain").updates)


def compact_and_tell(path: str, started: Connection) -> None:
    started.send(None)
    compact(Path(path), target_bytes=15_000)
    compact(Path(path))


def log_and_tell(path: str, committed: Connection) -> None:
    with Recorder(path, segment_bytes=2_000) as rec:
        for step in range(200):
            rec.log_step(step, {"reward": [float(step)] * 20})
            committed.send(step)


@pytest.fixture(scope="module")
def forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmhealth.runlog"])
    return context


def test_a_kill_at_any_moment_loses_nothing(
    run_dir: Path, tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    before, rng = content(open_run(run_dir)), random.Random(0)
    interrupted = 0
    for number in range(12):
        path = tmp_path / f"copy-{number}"
        shutil.copytree(run_dir, path)
        receiving, sending = forkserver.Pipe(duplex=False)
        process = forkserver.Process(target=compact_and_tell, args=(str(path), sending))
        process.start()
        receiving.recv()
        process.join(rng.random() * 0.1)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        interrupted += process.exitcode != 0
        assert same(before, content(open_run(path)))
        compact(path)
        assert len(segments(path)) == len({file.parent for file in segments(path)})
        assert not [file for file in path.rglob(".*.parquet") if file.stat().st_size]
        assert same(before, content(open_run(path)))
        shutil.rmtree(path)
    assert interrupted > 2


def test_beside_a_writer_and_a_reader_no_step_is_lost(
    tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    path = tmp_path / "run"
    receiving, sending = forkserver.Pipe(duplex=False)
    process = forkserver.Process(target=log_and_tell, args=(str(path), sending))
    process.start()
    sending.close()
    receiving.recv()
    reader, seen = open_run(path), set[int]()
    while process.is_alive():
        compact(path, target_bytes=30_000)
        seen |= {data.step for data in reader.tail() if data.complete}
    compact(path)
    seen |= {data.step for data in reader.tail() if data.complete}
    assert seen == set(range(200))
    assert not reader.status().data_lost
    assert same(content(reader), content(open_run(path)))


def test_the_command_says_what_it_did(run_dir: Path) -> None:
    damaged = sorted((run_dir / "updates").glob("*.parquet"))[0]
    damaged.write_bytes(b"")
    before = len(segments(run_dir))
    done = CliRunner().invoke(app, ["compact", str(run_dir)])
    assert done.exit_code == 0, done.output
    first, left = done.output.splitlines()
    merged, written = [int(word) for word in first.split() if word.isdigit()]
    assert len(segments(run_dir)) == before - merged + written
    assert left == f"left as it is: updates/{damaged.name}: the file is empty"
