"""Every command and every program in README.md and docs/recording.md is run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmhealth import open_run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDING = (ROOT / "docs" / "recording.md").read_text(encoding="utf-8")
SAMPLES = (ROOT / "sample_logs" / "README.md").read_text(encoding="utf-8")

COMMANDS = sorted(
    set(re.findall(r"^    (mmhealth [^#\n]+?) *(?:#.*)?$", README + SAMPLES, re.MULTILINE))
    | set(re.findall(r"`(mmhealth import [^`]+)`", README))
)
BLOCKING = [command for command in COMMANDS if command.startswith("mmhealth watch")]
EXIT_CODES = {
    "mmhealth gate runs/today --format github": 1,
    "mmhealth gate sample_logs/collapsing": 1,
}


def programs(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """What the README supposes to lie there."""
    shutil.copytree(ROOT / "sample_logs", tmp_path / "sample_logs")
    shutil.copytree(ROOT / "sample_logs" / "collapsing", tmp_path / "runs" / "today")
    lines = [f'{{"iter": {step}, "score": {row % 2}}}' for step in range(3) for row in range(8)]
    (tmp_path / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def arguments(command: str) -> list[str]:
    return [sys.executable, "-m", "mmhealth", *command.split()[1:]]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in BLOCKING])
def test_commands(workplace: Path, command: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GITHUB_STEP_SUMMARY"}
    done = subprocess.run(
        arguments(command),
        cwd=workplace,
        env=environment,
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_CODES.get(command, 0), done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", BLOCKING)
def test_commands_that_serve(workplace: Path, command: str, unused_port: int) -> None:
    server = subprocess.Popen(
        [*arguments(command), "--port", str(unused_port)],
        cwd=workplace,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert "mmhealth" in fetch(f"http://127.0.0.1:{unused_port}/", server)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)


def fetch(url: str, server: subprocess.Popen[bytes]) -> str:
    for _ in range(300):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README + SAMPLES))))
def test_make_targets(target: str) -> None:
    """`make test` runs us and tests/e2e runs the demo: here only that make knows them all."""
    for command in (["make", "-n", target], ["make", "help"]):
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"make {target} " in done.stdout


def test_programs_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [program] = programs(README)
    rows = {"prompt_id": [0, 0], "reward": [0.0, 1.0], "solved": [False, True]}
    batch = SimpleNamespace(**rows, advantage=[-0.5, 0.5], log_ratio=[0.1, 0.0], loss=0.3)
    exec(program, {"steps": 3, "policy": None, "rollout_and_update": lambda _: batch})
    run = open_run("runs/today")
    assert run.status().steps_complete == 3
    assert not run.status().data_lost


def test_programs_of_the_recording_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = programs(RECORDING)
    rows = {"prompt_id": [0, 0], "reward": [0.0, 1.0], "solved": [False, True]}
    batch = SimpleNamespace(**rows, response_length=[5, 6])
    known: dict[str, Any] = {
        "steps": 3,
        "policy": None,
        "rollout": lambda _: batch,
        "update": lambda *_: (0.3, [0.1, 0.0], [-0.5, 0.5]),
    }
    exec(first, known)
    assert open_run("runs/today").status().steps_complete == 3
    exec(
        "from mmhealth import Recorder\nwith Recorder('runs/other') as rec:\n"
        + "".join(f"    {line}\n" for line in second.splitlines()),
        {
            **rows,
            "step": 0,
            "minibatches": [np.array([0]), np.array([1])],
            "log_weight": np.array([0.1, 0.2]),
            "lr": 0.1,
        },
    )
    run = open_run("runs/other")
    assert run.updates["update"].to_list() == [0, 1]
    assert not run.status().data_lost
