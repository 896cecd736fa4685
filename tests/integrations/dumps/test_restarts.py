"""A trainer that went back, a dump that moves or goes away, and two imports at once."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.errors import ImportBusyError, ImportDataError
from mmhealth.integrations.dumps import follow_dump, import_dump
from mmhealth.integrations.dumps.ledger import Ledger


def steps_of(run_dir: Path) -> list[int]:
    return list(open_run(run_dir).steps["step"].to_list())


def older(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))


def test_files_that_a_restart_has_not_rewritten_yet_are_not_its_steps(
    tmp_path: Path, writers: Any
) -> None:
    dump, run = tmp_path / "dump", tmp_path / "run"
    writers.write_verl(dump, range(1, 9))
    older(dump)
    import_dump(dump, run)
    for rewritten in (4, 5, 6):
        writers.write_verl(dump, [rewritten])
        done = import_dump(dump, run)
        assert done.steps == 1
        assert steps_of(run) == list(range(1, rewritten + 1))
        [rows] = [n for what, n in done.problems.notices.items() if "went back" in what]
        assert rows == 8 * (8 - rewritten)
    assert import_dump(dump, run).steps == 0
    writers.write_verl(dump, range(7, 12))
    assert import_dump(dump, run).problems.notices == {}
    assert steps_of(run) == list(range(1, 12))


def test_files_that_were_only_copied_are_all_taken(tmp_path: Path, writers: Any) -> None:
    dump, run = tmp_path / "dump", tmp_path / "run"
    writers.write_verl(dump, range(1, 5))
    import_dump(dump, run)
    older(dump)
    import_dump(dump, run)
    assert steps_of(run) == [1, 2, 3, 4]


def test_a_file_that_comes_late_takes_no_step_away(tmp_path: Path, writers: Any) -> None:
    dump, run = tmp_path / "dump", tmp_path / "run"
    writers.write_areal(dump, [1, 2, 3])
    import_dump(dump, run)
    [first, *_] = sorted(path for path in dump.rglob("*.jsonl") if path.parent.name == "1")
    with first.open("a") as file:
        file.write(first.read_text().splitlines()[0] + "\n")
    import_dump(dump, run)
    assert steps_of(run) == [1, 2, 3]


def test_a_bad_line_between_two_imports_is_told_once(tmp_path: Path, writers: Any) -> None:
    dump, run = tmp_path / "dump", tmp_path / "run"
    writers.write_open_instruct(dump, [1, 2], shard_steps=100)
    import_dump(dump, run)
    with next(dump.iterdir()).open("a") as file:
        file.write('{"step": 3, "cut\n')
        file.writelines(json.dumps(r) + "\n" for r in writers.open_instruct_records(3))
    done = import_dump(dump, run)
    assert done.problems.count == 1
    assert done.problems.first[0].line == 17
    with next(dump.iterdir()).open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in writers.open_instruct_records(4))
    assert import_dump(dump, run).problems.count == 0
    assert steps_of(run) == [1, 2, 3, 4]


def test_a_step_that_a_restart_wrote_again_counts_once(tmp_path: Path, writers: Any) -> None:
    writers.write_open_instruct(tmp_path / "one", [1, 2, 3], shard_steps=100)
    writers.write_swift(tmp_path / "two", [1, 2, 3])
    again = {
        "one": [*writers.open_instruct_records(3), *writers.open_instruct_records(4)],
        "two": [writers.swift_record(3), writers.swift_record(4)],
    }
    for name, records in again.items():
        with next((tmp_path / name).iterdir()).open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        assert import_dump(tmp_path / name, tmp_path / f"{name}-run").steps == 5
        run = open_run(tmp_path / f"{name}-run")
        sizes = run.trajectories.group_by("step").len().sort("step")
        assert sizes.rows() == [(1, 8), (2, 8), (3, 8), (4, 8)]
        assert import_dump(tmp_path / name, tmp_path / f"{name}-run").steps == 0


def test_a_step_written_again_in_part_shows_what_was_written_last(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_open_instruct(tmp_path / "dump", [1, 2], shard_steps=100)
    import_dump(tmp_path / "dump", tmp_path / "run")
    with next((tmp_path / "dump").iterdir()).open("a") as file:
        for record in writers.open_instruct_records(2)[:3]:
            file.write(json.dumps(record | {"reward": 9.0}) + "\n")
    assert import_dump(tmp_path / "dump", tmp_path / "run").steps == 1
    rows = open_run(tmp_path / "run").trajectories.filter(step=2)
    assert rows["reward"].to_list() == [9.0] * 3


def test_further_lines_of_a_step_are_told(tmp_path: Path, writers: Any) -> None:
    other = writers.swift_record(2) | {"completion": ["another"] * 8}
    writers.write_lines(tmp_path / "completions.jsonl", [writers.swift_record(2), other])
    done = import_dump(tmp_path, tmp_path / "run")
    assert done.rows == 16
    assert [n for what, n in done.problems.notices.items() if "further lines" in what] == [8]


def test_more_bad_lines_between_imports_than_are_named_are_all_counted(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_open_instruct(tmp_path / "dump", [1, 2], shard_steps=100)
    import_dump(tmp_path / "dump", tmp_path / "run")
    with next((tmp_path / "dump").iterdir()).open("a") as file:
        file.write("{\n" * 150)
        file.writelines(json.dumps(r) + "\n" for r in writers.open_instruct_records(3))
    problems = import_dump(tmp_path / "dump", tmp_path / "run").problems
    assert (problems.count, len(problems.first)) == (150, 100)


def test_traces_wait_for_exports_that_are_being_written(tmp_path: Path, writers: Any) -> None:
    dump, run = tmp_path / "dump", tmp_path / "run"
    writers.write_prime(dump, [0])
    stable = dump / "token_exports" / "step_0" / "STABLE"
    stable.unlink()
    assert import_dump(dump, run, settle=0.0).steps == 0
    stable.touch()
    assert import_dump(dump, run, settle=0.0).steps == 1
    assert open_run(run).steps["attempt"].to_list() == [0]
    assert open_run(run).updates["log_weight"].null_count() == 0


def test_replace_waits_for_who_imports(tmp_path: Path, writers: Any) -> None:
    dump, run = writers.write_verl(tmp_path / "dump", [1, 2]), tmp_path / "run"
    import_dump(dump, run)
    with Ledger.open(run, {}), pytest.raises(ImportBusyError):
        import_dump(dump, run, replace=True)
    assert steps_of(run) == [1, 2]
    assert import_dump(dump, run, replace=True).steps == 2


def followed(dump: Path, run: Path, looks: int, between: Any) -> None:
    """Follow a dump for some looks; ``between`` is called after the first."""
    stop, seen = threading.Event(), []

    def told(_: Any) -> None:
        seen.append(None)
        if len(seen) == 1:
            between()
        if len(seen) == looks:
            stop.set()

    follow_dump(dump, run, stop=stop, poll=0.01, settle=0.0, told=told)


def test_a_link_that_moves_to_another_run_is_not_followed_there(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_verl(tmp_path / "run1", [1, 2, 3])
    writers.write_verl(tmp_path / "run2", [1])
    latest = tmp_path / "latest"
    latest.symlink_to(tmp_path / "run1")

    def move() -> None:
        latest.unlink()
        latest.symlink_to(tmp_path / "run2")

    followed(latest, tmp_path / "imported", 3, move)
    assert steps_of(tmp_path / "imported") == [1, 2, 3]


def test_a_dump_that_goes_away_ends_the_following_with_its_name(
    tmp_path: Path, writers: Any
) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1, 2])
    with pytest.raises(ImportDataError, match="dump is gone"):
        followed(dump, tmp_path / "run", 3, lambda: shutil.rmtree(dump))
    assert steps_of(tmp_path / "run") == [1, 2]
