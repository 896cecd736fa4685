"""Health metrics sent to trackers, and read back with each tracker's own reader."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.cli import main
from mmhealth.errors import RunNotFoundError, TrackerError, TrackerTargetError
from mmhealth.health import Monitor, build_timeline, judge_run
from mmhealth.health.timeline import LivedStep
from mmhealth.integrations.trackers import (
    HealthSteps,
    forward,
    forwarding,
    latest_health,
    parse_target,
)
from mmhealth.integrations.trackers.ledger import open_ledger
from mmhealth.integrations.trackers.steps import SENT, VERDICTS
from mmhealth.integrations.trackers.tracker import Target


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.fixture
def run(tmp_path: Path, record: Any) -> Path:
    """Eight steps; from step 4 on most groups fail."""
    return Path(record(tmp_path / "run", [1.0] * 4 + [0.1] * 4))


@pytest.fixture
def to(tmp_path: Path) -> list[str]:
    """A target: TensorBoard in the folder ``tb``."""
    pytest.importorskip("tensorboard")
    return [f"tensorboard={tmp_path / 'tb'}"]


def test_each_step_has_the_numbers_of_the_timeline(collapsing_run: Path) -> None:
    frame = build_timeline(open_run(collapsing_run)).frame
    steps = HealthSteps(collapsing_run).read()
    assert [step.key.step for step in steps] == frame["step"].to_list()
    for step, row in zip(steps, frame.to_dicts(), strict=True):
        assert step.time == row["time"]
        for name in SENT:
            if name in row and row[name] is not None:
                assert step.values[f"mmhealth/{name}"] == row[name]
        absent = {name for name in row if row[name] is None}
        assert absent
        assert not {f"mmhealth/{name}" for name in absent} & step.values.keys()
        assert {name.removeprefix("mmhealth/") for name in step.values} <= set(SENT)


def test_verdict_and_alerts_are_those_a_watcher_saw_at_the_step(tmp_path: Path, batch: Any) -> None:
    seen, run = [], tmp_path / "run"
    with Recorder(run, nominal_batch=64) as recorder:
        monitor = Monitor(recorder)
        for step in range(20):
            recorder.log_step(step, batch(step, mixed=1.0 if step < 4 or step > 14 else 0.1))
            monitor.poll()
            firing = [a.severity for a in monitor.alerts if a.state == "firing"]
            seen.append((VERDICTS.get(judge_run(monitor).name), firing.count("critical")))
    told = [
        (step.values.get("mmhealth/verdict"), step.values["mmhealth/alerts_critical"])
        for step in HealthSteps(run).read()
    ]
    assert told == seen
    assert len(set(told)) >= 3


def test_a_verdict_for_want_of_data_is_absent(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, {"length": [1.0, 2.0]})
    [step] = HealthSteps(tmp_path / "run").read()
    assert "mmhealth/verdict" not in step.values
    assert step.values["mmhealth/alerts_critical"] == 0


def test_a_growing_run_is_read_once_and_in_order(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run") as recorder:
        steps = HealthSteps(recorder.run_dir)
        assert steps.read() == []
        for step in range(3):
            recorder.log_step(step, batch(step))
        assert [step.key.step for step in steps.read()] == [0, 1, 2]
        recorder.amend(1, 0, "reward", 5.0, arrived_step=2)
        assert steps.read() == []
        recorder.log_step(3, batch(3))
        assert [step.key.step for step in steps.read()] == [3]


def test_steps_that_a_restart_hides_are_told_only_before_it(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", attempt=0) as recorder:
        for step in range(4):
            recorder.log_step(step, batch(step))
    live = HealthSteps(tmp_path / "run")
    assert len(live.read()) == 4
    with Recorder(tmp_path / "run", attempt=1, start_step=2) as recorder:
        for step in range(2, 5):
            recorder.log_step(step, batch(step))
    assert [step.key for step in live.read()] == [(1, 2), (1, 3), (1, 4)]
    late = [step.key for step in HealthSteps(tmp_path / "run").read()]
    assert late == [(0, 0), (0, 1), (1, 2), (1, 3), (1, 4)]


def test_a_loop_takes_the_latest_numbers_to_its_own_tracker(collapsing_run: Path) -> None:
    monitor = Monitor(collapsing_run)
    assert latest_health(monitor) == {}
    monitor.poll()
    last = HealthSteps(collapsing_run).read()[-1]
    assert latest_health(monitor) == {"mmhealth/step": 13.0, **last.values}


def test_tensorboard_shows_each_step_once(run: Path, tmp_path: Path, to: list[str]) -> None:
    [told] = forward(run, to)
    assert (told.steps, told.in_doubt) == (8, 0)
    expected: dict[str, list[tuple[int, float]]] = {}
    for step in HealthSteps(run).read():
        for name, value in step.values.items():
            expected.setdefault(name, []).append((step.key.step, pytest.approx(value, rel=1e-6)))
    assert scalars(tmp_path / "tb") == expected
    [again] = forward(run, to)
    assert again.steps == 0
    assert scalars(tmp_path / "tb") == expected


def test_an_export_goes_on_where_it_ended(tmp_path: Path, batch: Any, to: list[str]) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, batch(0))
        assert forward(recorder.run_dir, to)[0].steps == 1
        recorder.log_step(1, batch(1))
        assert forward(recorder.run_dir, to)[0].steps == 1
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == [0, 1]


def test_after_a_restart_tensorboard_shows_the_new_attempt(
    tmp_path: Path, batch: Any, to: list[str]
) -> None:
    with Recorder(tmp_path / "run", attempt=0) as recorder:
        for step in range(6):
            recorder.log_step(step, batch(step))
    forward(tmp_path / "run", to)
    with Recorder(tmp_path / "run", attempt=1, start_step=3) as recorder:
        recorder.log_step(3, batch(3))
        recorder.log_step(4, batch(4))
    forward(tmp_path / "run", to)
    attempts = [(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0)]
    assert scalars(tmp_path / "tb")["mmhealth/attempt"] == attempts


def test_what_a_killed_export_left_in_doubt_is_there_once(
    run: Path, tmp_path: Path, to: list[str]
) -> None:
    """The kill comes between TensorBoard's files and the ledger."""
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(run), *to], check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    [ledger] = tmp_path.glob("run.export-tensorboard-*.json")
    assert json.loads(ledger.read_text())["sending"] == [0, 7]
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == list(range(8))
    assert forward(run, to)[0].steps == 8
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == list(range(8))


_KILLED = """
import os, signal, sys
from mmhealth.integrations.trackers import forward
from mmhealth.integrations.trackers.ledger import Ledger

Ledger.done = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
forward(sys.argv[1], sys.argv[2:])
"""


def test_training_is_followed_from_a_thread(tmp_path: Path, batch: Any, to: list[str]) -> None:
    with Recorder(tmp_path / "run") as recorder, forwarding(recorder.run_dir, to, poll=0.01):
        for step in range(5):
            recorder.log_step(step, batch(step))
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == list(range(5))


def test_a_run_in_anothers_place_begins_anew(tmp_path: Path, record: Any, to: list[str]) -> None:
    forward(record(tmp_path / "run", [1.0] * 4), to)
    (tmp_path / "run").rename(tmp_path / "old")
    assert forward(record(tmp_path / "run", [1.0] * 2), to)[0].steps == 2
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == [0, 1]


def test_an_export_begins_anew_where_its_folder_is_gone_or_another(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        assert forward(run, ["tensorboard=tb"])[0].steps == 8
    assert forward(run, [f"tensorboard={tmp_path / 'a' / 'tb'}"])[0].steps == 0
    shutil.rmtree(tmp_path / "a" / "tb")
    assert forward(run, [f"tensorboard={tmp_path / 'a' / 'tb'}"])[0].steps == 8
    for place in ("a", "b"):
        shown = scalars(tmp_path / place / "tb")["mmhealth/n"]
        assert [step for step, _ in shown] == list(range(8))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:s3cr%40t@host:5000/x", "http://***@host:5000/x"),
        ("http://host:5000/x?token=s3cr%40t", "http://host:5000/x?***"),
        ("postgresql://s3cr%40t@host/base", "postgresql://***@host/base"),
        ("sqlite:////home/me@work/runs.db", "sqlite:////home/me@work/runs.db"),
    ],
)
def test_no_password_of_a_target_is_written_or_told(address: str, shown: str, run: Path) -> None:
    asked = Target("mlflow", address)
    assert asked.name == f"mlflow={shown}"
    assert "s3cr" not in repr(asked)
    with pytest.raises(TrackerError) as told, asked.without_secrets():
        raise TrackerError(f"mlflow: {address} cannot be reached") from OSError(address)
    assert f"{shown} cannot be reached" in "".join(traceback.format_exception(told.value))
    assert "s3cr" not in "".join(traceback.format_exception(told.value))
    with open_ledger(run, "id", asked.name) as ledger:
        ledger.begin(LivedStep(0, 0))
    [file] = run.parent.glob("*.export-mlflow-*.json")
    assert json.loads(file.read_text())["target"] == asked.name
    assert "s3cr" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_two_exports_to_one_target_are_refused(run: Path, tmp_path: Path, to: list[str]) -> None:
    stop, first = threading.Event(), []
    thread = threading.Thread(
        target=lambda: first.extend(forward(run, to, follow=True, poll=0.01, stop=stop))
    )
    thread.start()
    while not list((tmp_path / "tb").glob("*")):
        assert thread.is_alive()
    with pytest.raises(TrackerError, match="already being sent to tensorboard="):
        forward(run, to)
    stop.set()
    thread.join()
    assert first[0].steps == 8


def test_a_folder_that_cannot_be_written_is_named(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(TrackerError, match="file/tb cannot be written"):
        forward(run, [f"tensorboard={tmp_path / 'file' / 'tb'}"])


def test_trackers_that_are_not_there_are_named_with_the_way_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackerTargetError, match="no tracker 'neptune' is known; known: tensorb"):
        parse_target("neptune")
    with pytest.raises(TrackerTargetError, match="tensorboard=DIR"):
        parse_target("tensorboard")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackerTargetError, match=r"wandb is not installed: .*'mmhealth\[wandb\]'"):
        forward(run, ["wandb"])
    with pytest.raises(RunNotFoundError):
        forward(tmp_path / "nothing", [])


def test_no_library_is_imported_before_it_is_used() -> None:
    program = (
        "import sys, mmhealth.cli, mmhealth.integrations.trackers as t\n"
        "assert t.latest_health\n"
        "assert not {'tensorboard', 'wandb', 'mlflow', 'trackio'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_step_completed_after_later_ones_were_told_is_left_out(
    tmp_path: Path, batch: Any
) -> None:
    told = []
    with (
        Recorder(tmp_path / "run", rank=0, world_size=2, attempt=0) as first,
        Recorder(tmp_path / "run", rank=1, world_size=2, attempt=0) as second,
    ):
        live = HealthSteps(tmp_path / "run")
        for step in range(12):
            first.log_step(step, batch(step))
            if step != 2:
                second.log_step(step, batch(step))
            told += [found.key.step for found in live.read()]
        second.log_step(2, batch(2))
        told += [found.key.step for found in live.read()]
    assert told == [step for step in range(12) if step != 2]


def test_the_command_follows_a_run_that_begins_later_until_it_is_ended(
    tmp_path: Path, batch: Any, to: list[str]
) -> None:
    command = [sys.executable, "-m", "mmhealth", "export", str(tmp_path / "run"), "--to", *to]
    with (
        subprocess.Popen(
            [*command, "--follow", "--poll", "0.05"], stdout=subprocess.PIPE, text=True
        ) as process,
        Recorder(tmp_path / "run") as recorder,
    ):
        for step in range(3):
            recorder.log_step(step, batch(step))
        while not _sent(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        recorder.log_step(3, batch(3))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{to[0]}: 4 steps sent\n")
    assert [step for step, _ in scalars(tmp_path / "tb")["mmhealth/n"]] == [0, 1, 2, 3]


def _sent(folder: Path) -> bool:
    ledgers = list(folder.glob("run.export-*.json"))
    return bool(ledgers and ledgers[0].read_text() and json.loads(ledgers[0].read_text())["sent"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "export needs either --to or --serve"),
        (["--to", "trackio", "--serve", ":1"], "export needs either --to or --serve"),
        (["--serve", ":1", "--follow"], "--follow goes with --to"),
        (["--serve", "localhost"], "'localhost' is not of the form [HOST]:PORT"),
        (["--serve", ":70000"], "':70000' is not of the form [HOST]:PORT"),
        (["--to", "neptune"], "no tracker 'neptune' is known"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    run: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", str(run), *arguments])
    assert end.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())
