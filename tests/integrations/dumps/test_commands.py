"""The commands on raw dumps, as processes of their own."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

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


def test_a_log_of_scalars_is_imported_and_judged_by_the_commands(
    tmp_path: Path, writers: Any, cli: Any
) -> None:
    records = [{"step": i, "data": {"actor/entropy": 2.0 ** -min(i, 9)}} for i in range(1, 21)]
    log = writers.write_lines(tmp_path / "log" / "experiment.jsonl", records)
    done = cli("import", log, "--from", "verl-file", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path / 'run'}: 20 steps, from the verl-file dump {log}" in done.stdout
    assert "not given: trajectories: the log has means of steps" in done.stdout
    audit = cli("audit", log.parent, "--json", "-")
    assert "not given: trajectories: the log has means of steps" in audit.stderr
    (run,) = json.loads(audit.stdout)["runs"]
    assert [alert["rule"] for alert in run["alerts"]] == ["entropy_collapse"]
    gate = cli("gate", tmp_path / "run")
    assert gate.returncode == 3, "no rule that is critical could be judged"


def test_a_file_that_only_a_log_can_be_needs_no_flag(tmp_path: Path, cli: Any) -> None:
    event = Event(step=3, summary=Summary(value=[Summary.Value(tag="train/kl", simple_value=0.5)]))
    log = tmp_path / "events.out.tfevents.1.host"
    with log.open("wb") as file:
        RecordWriter(file).write(event.SerializeToString())
    done = cli("import", log, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert open_run(tmp_path / "run").steps["kl_ref"].to_list() == [0.5]
    (tmp_path / "notes.txt").write_text("no log")
    refused = cli("import", tmp_path / "notes.txt", "--out", tmp_path / "other")
    assert "what kind of file this is cannot be told" in refused.stderr


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


def test_how_far_an_import_is_shows_on_a_terminal_alone(
    tmp_path: Path, writers: Any, cli: Any
) -> None:
    dump = writers.write_nemo(tmp_path / "dump", range(1, 4))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mmhealth", "import", dump, "--out", tmp_path / "run"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal that nobody holds any more
        while part := os.read(ours, 1 << 12):
            shown += part
    os.close(ours)
    child.communicate(timeout=60)
    assert child.returncode == 0
    size = sum(path.stat().st_size for path in dump.iterdir())
    assert f"{size / 1000:.1f}/{size / 1000:.1f} kB".encode() in shown
    assert b"24 rows" in shown
    assert cli("import", dump, "--out", tmp_path / "other").stderr == ""
