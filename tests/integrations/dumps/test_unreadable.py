"""What an import may not read, cannot read, or must not touch."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.errors import ImportDataError
from mmhealth.integrations import import_table
from mmhealth.integrations.dumps import follow_dump, import_dump
from mmhealth.integrations.dumps.ledger import NAME


def test_a_number_that_is_no_step_is_named_once(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1, 2])
    (dump / "2.jsonl").rename(dump / f"{10**20}.jsonl")
    done = import_dump(dump, tmp_path / "run")
    assert [problem.why for problem in done.problems.first] == [
        f"{10**20} is too large for a step; left out"
    ]
    assert open_run(tmp_path / "run").steps["step"].to_list() == [1]
    looks: list[int] = []
    stop = threading.Event()

    def told(done: Any) -> None:
        looks.append(done.problems.count)
        if len(looks) == 3:
            stop.set()

    follow_dump(dump, tmp_path / "run", stop=stop, poll=0.01, settle=0.0, told=told)
    assert looks == [1, 1, 1]


def test_log_probabilities_that_nemo_rl_did_not_compute_are_unknown(
    tmp_path: Path, writers: Any
) -> None:
    zeros = [[0.0] * 12]
    records = [writers.nemo_record(0, generation_logprobs=zeros), writers.nemo_record(1)]
    writers.write_lines(tmp_path / "dump" / "train_data_step1.jsonl", records)
    done = import_dump(tmp_path / "dump", tmp_path / "run")
    weights = open_run(tmp_path / "run").updates["log_weight"]
    assert [weight is None for weight in weights] == [True, False]
    assert [n for what, n in done.problems.notices.items() if "generation_logprobs" in what] == [1]


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


@contextmanager
def nobody(place: Path) -> Iterator[None]:
    """Takes the rights of a user that owns nothing, where ``place`` and above are open to all."""
    place.chmod(0o777)
    for parent in place.parents[:3]:
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights, so it needs root")
def test_a_folder_that_cannot_be_opened_is_passed_over(tmp_path: Path, writers: Any) -> None:
    writers.write_verl(tmp_path / "dump", [1])
    (tmp_path / "private").mkdir(mode=0o700)
    with nobody(tmp_path):
        assert import_dump(tmp_path, tmp_path / "run").steps == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights, so it needs root")
@pytest.mark.parametrize("asked", ["private", "private/dump", "tinker"])
def test_a_folder_that_cannot_be_opened_is_named_where_it_is_needed(
    tmp_path: Path, writers: Any, asked: str
) -> None:
    writers.write_verl(tmp_path / "private" / "dump", [1])
    (tmp_path / "private").chmod(0o700)
    writers.write_tinker(tmp_path / "tinker", [1, 2])
    (tmp_path / "tinker" / "iteration_000002").chmod(0o700)
    with nobody(tmp_path), pytest.raises(ImportDataError, match="cannot be read: Permission"):
        import_dump(tmp_path / asked, tmp_path / "run")


def test_a_line_nested_too_deeply_in_a_table_is_named(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text('{"step": 1, "reward": 0.5}\n{"step": ' + "[" * 200_000 + "\n")
    with pytest.raises(ImportDataError, match="line 2"):
        import_table(table, {}, tmp_path / "run")
