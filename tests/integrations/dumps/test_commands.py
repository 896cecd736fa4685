"""The commands on raw dumps, as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.integrations.dumps.ledger import NAME

Process = subprocess.CompletedProcess[str]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: object) -> Process:
        command = [sys.executable, "-m", "mmhealth", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_audit_takes_raw_dumps_of_three_formats_without_a_flag(
    tmp_path: Path, writers: Any, cli: Any
) -> None:
    dumps = [
        writers.write_nemo(tmp_path / "logs" / "exp_001", range(1, 4)).parent,
        writers.write_tinker(tmp_path / "tinker", range(3)),
        writers.write_trl(tmp_path / "completions", range(1, 4)),
    ]
    before = [writers.files_of(dump) for dump in dumps]
    done = cli("audit", *dumps, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 3
    for name in ("nemo-rl", "tinker-cookbook", "trl"):
        assert f"a {name} dump, imported into {tmp_path / 'cache'}" in done.stderr
    assert [writers.files_of(dump) for dump in dumps] == before


def test_audit_says_when_a_folder_is_neither_run_nor_dump(tmp_path: Path, cli: Any) -> None:
    done = cli("audit", tmp_path)
    assert done.returncode == 3
    assert "is not a run directory" in done.stderr


def test_import_says_what_it_did_what_lacks_and_what_it_left_out(
    tmp_path: Path, writers: Any, cli: Any
) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1, 2])
    with (dump / "2.jsonl").open("a") as file:
        file.write('{"input": "p", "output": "o"}\n')
    done = cli("import", dump, "--out", tmp_path / "run", "--from", "verl")
    assert done.returncode == 3, "something was left out"
    assert f"{tmp_path / 'run'}: 16 rows in 2 steps, from the verl dump {dump}" in done.stdout
    assert "not given: log_weight: not in the file" in done.stdout
    assert f"left out: {dump / '2.jsonl'}:9: field 'score' is missing" in done.stderr
    again = cli("import", dump, "--out", tmp_path / "run")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing new" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("{dump}", "--map", "a=b"), "--map and --const are for a file"),
        (("{file}", "--follow", "--out", "{out}"), "--follow is for a dump"),
        (("{file}",), "--out: say which run directory"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, writers: Any, cli: Any, arguments: tuple[str, ...], why: str
) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1])
    places = {"dump": dump, "file": dump / "1.jsonl", "out": tmp_path / "run"}
    done = cli("import", *(argument.format(**places) for argument in arguments))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert why in done.stderr


def test_follow_ends_with_ctrl_c_and_keeps_what_is_complete(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2, 3])
    os.utime(dump / "train_data_step3.jsonl", (1, 1))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mmhealth", "import", dump, "--out", run, "--follow"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((run / NAME).exists() and (run / NAME).read_bytes().count(b"\n") == 4):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "24 rows in 3 steps" in out
    assert open_run(run).complete_steps() == [1, 2, 3]
