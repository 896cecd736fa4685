"""A run whose old steps are reduced, in an object store: rows or their summary are always there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.health.timeline import build_timeline
from mmhealth.place import run_place
from mmhealth.retention import Keep, reduce_run, step_sketch
from mmhealth.runlog import compact, upload_run

STEPS, KEPT = 20, 6


def record(run_dir: Path, batch: Any, **more: Any) -> Recorder:
    recorder = Recorder(run_dir, nominal_batch=64, segment_bytes=10_000, **more)
    for step in range(STEPS):
        recorder.log_step(step, batch(step))
    return recorder


def test_summaries_go_to_the_store(store: Any, tmp_path: Path, batch: Any) -> None:
    record(tmp_path / "run", batch).close()
    before = build_timeline(open_run(tmp_path / "run")).lived
    reduce_run(tmp_path / "run", Keep(KEPT))
    upload_run(tmp_path / "run", run_place(store.url))
    remote, local = open_run(store.url), open_run(tmp_path / "run")
    assert remote.status() == local.status()
    assert remote.status().steps_reduced == STEPS - KEPT
    assert build_timeline(remote).lived == before
    assert step_sketch(remote, 2, "updates.log_weight").count == 64


def test_a_reader_goes_on_where_a_run_was_uploaded_before_it_was_reduced(
    store: Any, tmp_path: Path, batch: Any
) -> None:
    recorder = record(tmp_path / "run", batch, upload=store.url)
    recorder.close()
    reader = build_timeline(open_run(store.url))
    reduce_run(tmp_path / "run", Keep(KEPT))
    upload_run(tmp_path / "run", run_place(store.url))
    reader.update()
    for run in (reader.run, open_run(store.url)):
        assert not run.status().data_lost
        assert run.status().steps_reduced == STEPS - KEPT
        assert run.trajectories["step"].min() == STEPS - KEPT
    assert reader.lived == build_timeline(open_run(tmp_path / "run")).lived


def test_no_commit_is_published_before_what_stands_for_its_rows(
    store: Any, tmp_path: Path, batch: Any
) -> None:
    record(tmp_path / "run", batch).close()
    reduce_run(tmp_path / "run", Keep(KEPT))
    sent: list[str] = []
    store.fault = lambda method, path, *_: sent.append(path) if method == "PUT" else None
    upload_run(tmp_path / "run", run_place(store.url))
    kinds = [part for path in sent for part in ("reduced", "steps") if f"/{part}/" in path]
    assert kinds == sorted(kinds)
    assert set(kinds) == {"reduced", "steps"}


@pytest.mark.parametrize("rewrite", [compact, lambda path: reduce_run(path, Keep(KEPT))])
@pytest.mark.parametrize("table", ["trajectories", "steps"])
def test_segments_that_are_rewritten_while_they_are_sent_are_all_there(
    store: Any, tmp_path: Path, batch: Any, table: str, rewrite: Callable[[Path], Any]
) -> None:
    record(tmp_path / "run", batch).close()
    before = build_timeline(open_run(tmp_path / "run")).lived
    rewritten: list[Any] = []

    def while_sent(method: str, path: str, *_: Any) -> None:
        if method == "PUT" and f"/{table}/" in path and not rewritten:
            rewritten.append(rewrite(tmp_path / "run"))

    store.fault = while_sent
    done = upload_run(tmp_path / "run", run_place(store.url))
    assert rewritten
    remote = open_run(store.url)
    assert (remote.status().data_lost, remote.status().steps_complete) == (False, STEPS)
    assert build_timeline(remote).lived == before
    assert done.present == 0
    upload_run(tmp_path / "run", run_place(store.url))
    assert open_run(store.url).status() == open_run(tmp_path / "run").status()
