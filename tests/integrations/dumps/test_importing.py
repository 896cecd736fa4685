"""Importing again, after a kill, after a change, and while the dump grows."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mmhealth import Recorder, open_run
from mmhealth.cli.dumps import following
from mmhealth.errors import ImportBusyError, ImportDataError
from mmhealth.integrations.dumps import ImportedDump, cache_dir, find_dump, follow_dump, import_dump
from mmhealth.integrations.dumps.ledger import NAME, Ledger


def wait_for(condition: Any) -> None:
    """Poll until it holds; the test's own time limit is generous."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def same_rows(writers: Any, a: Path, b: Path) -> None:
    assert_frame_equal(writers.rows_of_run(a), writers.rows_of_run(b))


def test_an_import_that_was_killed_goes_on(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", range(60), rows=64)
    code = (
        "import sys\nfrom mmhealth.integrations.dumps import import_dump\n"
        "import_dump(sys.argv[1], sys.argv[2])"
    )
    run = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", code, str(dump), str(run)])
    ledger = run / NAME
    wait_for(lambda: ledger.exists() and len(ledger.read_bytes().splitlines()) > 5)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = len(ledger.read_bytes().splitlines()) - 1
    assert done < 60, "it was killed too late to say anything"
    again = import_dump(dump, run)
    assert again.steps <= 60 - done
    assert open_run(run).complete_steps() == list(range(60))
    import_dump(dump, tmp_path / "fresh")
    same_rows(writers, run, tmp_path / "fresh")


def test_a_step_that_the_ledger_never_heard_of_counts_once(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2, 3])
    import_dump(dump, tmp_path / "run")
    import_dump(dump, tmp_path / "fresh")
    ledger = tmp_path / "run" / NAME
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]) + lines[-1][:10])
    assert import_dump(dump, tmp_path / "run").steps == 1
    same_rows(writers, tmp_path / "run", tmp_path / "fresh")
    assert import_dump(dump, tmp_path / "run").steps == 0


def test_a_file_written_anew_hides_its_step_and_all_after_it(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2, 3, 4])
    import_dump(dump, tmp_path / "run")
    records = [writers.nemo_record(i, step=9) for i in range(6)]
    writers.write_lines(dump / "train_data_step3.jsonl", records)
    assert import_dump(dump, tmp_path / "run").steps == 1
    writers.write_lines(dump / "train_data_step4.jsonl", records)
    assert import_dump(dump, tmp_path / "run").steps == 1
    run = open_run(tmp_path / "run")
    assert run.steps["attempt"].to_list() == [0, 0, 1, 2]
    import_dump(dump, tmp_path / "fresh")
    same_rows(writers, tmp_path / "run", tmp_path / "fresh")


def test_a_trainer_that_went_back_in_its_stream_begins_a_new_attempt(
    tmp_path: Path, writers: Any
) -> None:
    records = [writers.swift_record(step) for step in (1, 2, 3, 2, 3, 4)]
    records[3]["MathAccuracy"] = [1.0] * 8
    path = writers.write_lines(tmp_path / "completions.jsonl", records)
    done = import_dump(tmp_path, tmp_path / "run")
    assert done.steps == 6
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1, 2, 3, 4]
    assert run.trajectories.filter(step=2)["reward"].to_list() == [1.0] * 8
    assert import_dump(tmp_path, tmp_path / "run").steps == 0
    writers.write_lines(path, records[:5])
    assert import_dump(tmp_path, tmp_path / "run").steps == 5, "a stream cut short is read anew"
    assert open_run(tmp_path / "run").complete_steps() == [1, 2, 3]


def test_a_stream_goes_on_within_a_step(tmp_path: Path, writers: Any) -> None:
    records = [r for step in (1, 2) for r in writers.open_instruct_records(step)]
    path = tmp_path / "dump" / "run_rollouts_000000.jsonl"
    writers.write_lines(path, records[:12])
    import_dump(tmp_path / "dump", tmp_path / "run")
    assert len(open_run(tmp_path / "run").trajectories) == 12
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records[12:])
    assert import_dump(tmp_path / "dump", tmp_path / "run").steps == 1
    import_dump(tmp_path / "dump", tmp_path / "fresh")
    same_rows(writers, tmp_path / "run", tmp_path / "fresh")


def test_only_runs_that_an_import_of_this_dump_made_are_touched(
    tmp_path: Path, writers: Any
) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1])
    with Recorder(tmp_path / "own") as recorder:
        recorder.log_step(0, {"reward": [1.0]})
    for place in (tmp_path / "own", tmp_path / "dump"):
        with pytest.raises(ImportDataError, match="was not made by importing a dump"):
            import_dump(dump, place, replace=True)
    import_dump(dump, tmp_path / "run")
    other = writers.write_verl(tmp_path / "other", [1])
    with pytest.raises(ImportDataError, match="imported with format 'nemo-rl', not 'verl'"):
        import_dump(other, tmp_path / "run")
    with pytest.raises(ImportDataError, match="with loss_ratio 'token', not 'sequence'"):
        import_dump(dump, tmp_path / "run", loss_ratio="sequence")
    import_dump(dump, tmp_path / "run", loss_ratio="sequence", replace=True)
    assert open_run(tmp_path / "run").loss_ratio == "sequence"


def test_two_imports_into_one_run_do_not_mix(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1])
    import_dump(dump, tmp_path / "run")
    with (
        Ledger.open(tmp_path / "run", {}),
        pytest.raises(ImportBusyError, match="another process is importing"),
    ):
        import_dump(dump, tmp_path / "run")


def test_nothing_is_written_beside_the_dump(
    tmp_path: Path, writers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dump = writers.write_nemo(tmp_path / "dump", [1])
    before = writers.files_of(dump)
    found = find_dump(dump)
    assert found is not None
    done = import_dump(dump)
    assert done.run_dir == cache_dir(found)
    assert done.run_dir.is_relative_to(tmp_path / "cache" / "mmhealth")
    assert writers.files_of(dump) == before


def test_a_growing_dump_is_followed(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2])
    looks: list[ImportedDump] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: follow_dump(
            dump, tmp_path / "run", stop=stop, poll=0.02, settle=0.3, told=looks.append
        )
    )
    thread.start()
    try:
        wait_for(lambda: looks)
        assert (looks[0].steps, looks[0].waiting) == (1, 2), "the last step may still grow"
        wait_for(lambda: looks[-1].steps == 2)
        path = dump / "train_data_step3.jsonl"
        lines = [json.dumps(writers.nemo_record(i, step=3)) + "\n" for i in range(8)]
        with path.open("w") as file:
            for line in lines:
                file.write(line[:50])
                file.flush()
                time.sleep(0.02)
                file.write(line[50:])
        wait_for(lambda: looks[-1].steps == 3)
    finally:
        stop.set()
        thread.join()
    assert open_run(tmp_path / "run").complete_steps() == [1, 2, 3]
    assert len(open_run(tmp_path / "run").trajectories) == 24
    assert all(look.problems.count == 0 for look in looks)


def test_a_line_that_is_being_written_waits(tmp_path: Path, writers: Any) -> None:
    lines = [json.dumps(writers.swift_record(step)) + "\n" for step in (1, 2)]
    path = tmp_path / "dump" / "completions.jsonl"
    path.parent.mkdir()
    path.write_text(lines[0] + lines[1][:100])
    growing = import_dump(tmp_path / "dump", tmp_path / "run", settle=0.0)
    assert (growing.steps, growing.problems.count) == (1, 0)
    path.write_text("".join(lines))
    assert import_dump(tmp_path / "dump", tmp_path / "run", settle=0.0).steps == 1
    assert open_run(tmp_path / "run").steps["attempt"].to_list() == [0, 1]


@pytest.mark.parametrize("kind", ["swift", "open_instruct", "nemo"])
@given(cuts=st.lists(st.floats(0, 1), max_size=3), growing=st.booleans())
@settings(max_examples=15, deadline=None)
def test_wherever_a_growing_file_is_looked_at_the_end_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    writers: Any,
    kind: str,
    cuts: list[float],
    growing: bool,
) -> None:
    place = tmp_path_factory.mktemp("cuts")
    (place / "dump").mkdir()
    getattr(writers, f"write_{kind}")(place / "dump", range(1, 4))
    path = sorted((place / "dump").iterdir())[-1]
    content = path.read_bytes()
    for cut in sorted(cuts):
        path.write_bytes(content[: int(cut * len(content))])
        if find_dump(place / "dump") is not None:
            import_dump(place / "dump", place / "run", settle=0.0 if growing else None)
    path.write_bytes(content)
    done = import_dump(place / "dump", place / "run")
    assert done.problems.count == 0
    import_dump(place / "dump", place / "fresh")
    same_rows(writers, place / "run", place / "fresh")
    assert import_dump(place / "dump", place / "run").steps == 0


def test_what_is_watched_is_kept_up_to_date(
    tmp_path: Path, writers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dump = writers.write_nemo(tmp_path / "dump", [1])
    os.utime(dump / "train_data_step1.jsonl", (1, 1))
    recorded = tmp_path / "recorded"
    with following([recorded, dump]) as runs:
        assert runs[0] == recorded
        assert open_run(runs[1]).complete_steps() == [1]
        new = writers.write_nemo(tmp_path / "next", [2]) / "train_data_step2.jsonl"
        os.utime(new, (1, 1))
        new.rename(dump / new.name)
        wait_for(lambda: open_run(runs[1]).complete_steps() == [1, 2])
    assert import_dump(dump).steps == 0, "nobody imports any more"
