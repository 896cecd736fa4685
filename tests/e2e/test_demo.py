"""The demo as a process: page, trainings, the next commands, and nothing left running."""

import inspect
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO

import pytest

pytest.importorskip("torch")


def start(folder: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", "-m", "mmhealth", "demo", "--port", "0", "--no-browser"]
    return subprocess.Popen(
        [*command, "--dir", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_url(out: IO[str]) -> str:
    text = ""
    for line in out:
        text += line
        if match := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return match[0]
    raise AssertionError(text)


def trainings(folder: Path) -> list[int]:
    """Processes that train into this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if b"train" in command and str(folder).encode() in b" ".join(command) and state != "Z":
            found.append(int(process.name))
    return found


def test_the_demo_trains_both_runs_and_says_what_to_type_next(tmp_path: Path) -> None:
    demo = start(tmp_path / "runs", "--pace", "0", "--steps", "12", "--exit-when-done")
    out, _ = demo.communicate()
    assert demo.returncode == 0, out
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"mmhealth audit {folder / 'baseline'} {folder / 'fix'}" in out
    assert f"mmhealth gate {folder / 'baseline'}" in out
    assert all((folder / name / "run.json").exists() for name in ("baseline", "fix"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_demo_that_is_ended_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "runs"
    demo = start(folder, "--pace", "60")
    assert demo.stdout is not None
    with urllib.request.urlopen(read_url(demo.stdout)) as page:
        assert page.status == 200
    while len(trainings(folder)) < 2 and demo.poll() is None:
        time.sleep(0.1)
    os.kill(demo.pid, number)
    out, _ = demo.communicate()
    assert demo.returncode == code, out
    assert trainings(folder) == []


def test_a_demo_that_is_killed_takes_its_trainings_along(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    demo = start(folder, "--pace", "60")
    assert demo.stdout is not None
    read_url(demo.stdout)
    while not all(list(folder.glob(f"*/{name}/steps/*")) for name in ("baseline", "fix")):
        assert demo.poll() is None
        time.sleep(0.1)
    assert len(trainings(folder)) == 2
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 60
    while trainings(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert trainings(folder) == []


def test_the_demo_is_the_same_from_python_and_from_the_command_line(tmp_path: Path) -> None:
    from mmhealth.cli.app import demo
    from mmhealth.reference.demo import DemoConfig

    config, chosen = DemoConfig(folder=tmp_path), inspect.signature(demo).parameters
    for name in ("pace", "seed", "steps", "port", "browser", "exit_when_done"):
        assert chosen[name].default == getattr(config, name)


def test_a_training_that_fails_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    environment = {**os.environ, "MMHEALTH_ATTEMPT": "first"}
    command = [sys.executable, "-m", "mmhealth", "demo", "--port", "0", "--no-browser"]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path / "runs"), "--exit-when-done"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 3
    assert "MMHEALTH_ATTEMPT='first' is not a number" in done.stderr
