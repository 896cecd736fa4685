"""A trainer that went back, is moved, evaluates, or is read by two at once."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.errors import ImportBusyError, ImportDataError
from mmhealth.integrations import import_table
from mmhealth.integrations.dumps import follow_dump, import_dump
from mmhealth.integrations.dumps.ledger import NAME, Ledger


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
        assert any("went back" in notice for notice in done.problems.notices)
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


def test_a_step_that_stands_twice_in_a_stream_is_told(tmp_path: Path, writers: Any) -> None:
    writers.write_open_instruct(tmp_path / "one", [1, 2, 3], shard_steps=100)
    with next((tmp_path / "one").iterdir()).open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in writers.open_instruct_records(3))
    writers.write_swift(tmp_path / "two", [1, 2])
    with next((tmp_path / "two").iterdir()).open("a") as file:
        file.write(json.dumps(writers.swift_record(2)) + "\n")
    for name, rows in (("one", 8), ("two", 1)):
        notices = import_dump(tmp_path / name, tmp_path / f"{name}-run").problems.notices
        [told] = [count for what, count in notices.items() if "twice" in what]
        assert told == rows


def test_steps_that_trl_evaluated_are_left_out_where_that_is_known(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_trl(tmp_path / "out" / "completions", [1, 2, 3, 4])
    import_dump(tmp_path / "out", tmp_path / "unknown")
    assert steps_of(tmp_path / "unknown") == [1, 2, 3, 4]
    state = tmp_path / "out" / "checkpoint-4" / "trainer_state.json"
    state.parent.mkdir()
    logs = [{"step": 2, "eval_reward": 0.5}, {"step": 3, "reward": 0.5}, {"step": 4, "eval_x": 1}]
    state.write_text(json.dumps({"log_history": logs}))
    done = import_dump(tmp_path / "out", tmp_path / "known")
    assert steps_of(tmp_path / "known") == [1, 3]
    assert [n for what, n in done.problems.notices.items() if "trainer_state" in what] == [2]


def test_replace_waits_for_who_imports(tmp_path: Path, writers: Any) -> None:
    dump, run = writers.write_verl(tmp_path / "dump", [1, 2]), tmp_path / "run"
    import_dump(dump, run)
    with Ledger.open(run, {}), pytest.raises(ImportBusyError):
        import_dump(dump, run, replace=True)
    assert steps_of(run) == [1, 2]
    assert import_dump(dump, run, replace=True).steps == 2


def test_a_link_is_not_replaced(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1])
    import_dump(dump, tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(ImportDataError, match="symbolic link"):
        import_dump(dump, tmp_path / "link", replace=True)


def test_a_ledger_that_was_never_begun_is_no_hindrance(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).touch()
    assert import_dump(dump, tmp_path / "run").steps == 1


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


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights, so it needs root")
def test_a_folder_that_cannot_be_opened_is_passed_over(tmp_path: Path, writers: Any) -> None:
    writers.write_verl(tmp_path / "dump", [1])
    (tmp_path / "private").mkdir(mode=0o700)
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        assert import_dump(tmp_path, tmp_path / "run").steps == 1
    finally:
        os.seteuid(0)


def test_a_line_nested_too_deeply_in_a_table_is_named(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text('{"step": 1, "reward": 0.5}\n{"step": ' + "[" * 200_000 + "\n")
    with pytest.raises(ImportDataError, match="line 2"):
        import_table(table, {}, tmp_path / "run")
