"""``--engine`` of the commands: what they print does not depend on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.cli import main
from mmhealth.engines import LocalEngine
from mmhealth.health.calibration import read_courses
from tests.conftest import make_batch


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs that learn, long enough to calibrate on."""
    paths = [tmp_path_factory.mktemp("runs") / f"run{number}" for number in range(3)]
    for number, path in enumerate(paths):
        with Recorder(path, nominal_batch=64, strict=True) as rec:
            for step in range(110):
                rec.log_step(step, make_batch(1000 * number + step))
                won = round(1000 * min(0.1 + 0.012 * step, 0.96))
                rec.log_evaluation(step, episodes=1000, successes=won)
    return paths


@pytest.fixture(scope="module")
def two() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


@pytest.mark.parametrize("count", [1, 3])
def test_runs_are_read_the_same_by_workers(
    evaluated: list[Path], two: LocalEngine, count: int
) -> None:
    """Three runs go to two workers; of one run both measure steps."""
    told: list[int] = []
    there = read_courses(evaluated[:count], engine=two, told=told.append)
    assert there == read_courses(evaluated[:count])
    assert told[-1] == count


def test_audit_says_the_same(
    capsys: pytest.CaptureFixture[str], healthy_run: Path, collapsing_run: Path
) -> None:
    audit = ("audit", healthy_run, collapsing_run, "--json", "-")
    here = run_command(capsys, *audit)
    assert here[0] == 0
    assert run_command(capsys, *audit, "--engine", "local:2") == here


def test_calibrate_says_the_same(capsys: pytest.CaptureFixture[str], evaluated: list[Path]) -> None:
    calibrate = ("calibrate", *evaluated, "--target-false-alarms", "1/20")
    here = run_command(capsys, *calibrate)
    assert here[0] == 0, here
    assert run_command(capsys, *calibrate, "--engine", "local:2") == here


def test_fleet_says_the_same(
    capsys: pytest.CaptureFixture[str], healthy_run: Path, collapsing_run: Path
) -> None:
    fleet = ("fleet", healthy_run, collapsing_run, "--format", "markdown")
    here = run_command(capsys, *fleet, "--engine", "serial")
    assert here[0] == 0, here
    assert run_command(capsys, *fleet, "--engine", "local:2") == here
    code, _, said = run_command(capsys, *fleet, "--engine", "local:2", "--workers", "2")
    assert code == 2
    assert "--workers is for processes of this machine" in said


@pytest.mark.parametrize("command", ["audit", "calibrate", "import"])
def test_an_engine_that_there_is_not_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], healthy_run: Path, command: str
) -> None:
    path = healthy_run.parent if command == "import" else healthy_run
    more = ("--from", "verl") if command == "import" else ()
    code, _, said = run_command(capsys, command, path, *more, "--engine", "locl")
    assert code == 2
    assert "--engine: 'locl' is no engine; engines are serial, local" in said


def test_an_engine_is_for_dumps_that_are_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("step,reward\n0,1\n")
    code, _, said = run_command(
        capsys, "import", table, "--out", tmp_path / "run", "--engine", "local"
    )
    assert code == 2
    assert "not for a table" in said
    code, _, said = run_command(
        capsys, "import", tmp_path, "--from", "verl", "--follow", "--engine", "local"
    )
    assert code == 2
    assert "followed here" in said


def test_ray_from_the_command_line(healthy_run: Path) -> None:
    pytest.importorskip("ray")

    def audit(engine: str) -> str:
        command = [sys.executable, "-m", "mmhealth", "audit", str(healthy_run), "--json", "-"]
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*command, "--engine", engine],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr
        return done.stdout

    assert audit("ray:2") == audit("serial")
