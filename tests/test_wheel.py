"""The built wheel, run by a Python that has everything mmhealth depends on, and no torch."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROGRAM = """
import importlib.util, sys
assert importlib.util.find_spec("torch") is None
import mmhealth
from mmhealth.health import Monitor, judge_run
from mmhealth.health.policy import default_policy
with mmhealth.Recorder("run") as rec:
    for step in range(12):
        rec.log_step(step, {"grad_norm": [1.0] + [0.0] * 63})
monitor = Monitor("run")
monitor.poll()
print(judge_run(monitor).name, mmhealth.__file__)
import mmhealth.dashboards, mmhealth.report, mmhealth.cli
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and all installed packages but torch and mmhealth."""
    wheels, source = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("source")
    for name in ("mmhealth", "dashboards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels)]
    done = subprocess.run(
        [*build, str(source)], check=False, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [wheel] = wheels.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().lstrip("_").startswith(("torch", "mmhealth", "functorch")):
            (site / entry.name).symlink_to(entry)
    for name in [path for path in site.iterdir() if "mmhealth" in path.name]:
        name.unlink()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, timeout=300)
    return site


def run_without_torch(site: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [str(base), *command],
        cwd=cwd,
        env=environment,
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )


def test_recording_and_judging_need_no_torch(without_torch: Path, tmp_path: Path) -> None:
    done = run_without_torch(without_torch, tmp_path, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    verdict, file = done.stdout.split()
    assert verdict == "critical"
    assert file.startswith(str(without_torch))


def test_the_command_line_needs_no_torch(without_torch: Path, tmp_path: Path) -> None:
    run_without_torch(without_torch, tmp_path, "-c", PROGRAM)
    gate = run_without_torch(without_torch, tmp_path, "-m", "mmhealth", "gate", "run")
    assert gate.returncode == 1, gate.stderr
    audit = run_without_torch(
        without_torch, tmp_path, "-m", "mmhealth", "audit", "run", "--html", "audit.html"
    )
    assert audit.returncode == 0, audit.stderr
    assert (tmp_path / "audit.html").stat().st_size > 1_000_000
    train = run_without_torch(without_torch, tmp_path, "-m", "mmhealth", "train", "--run-dir", "t")
    assert train.returncode != 0
    assert "mmhealth[torch]" in train.stderr


def test_the_wheel_holds_every_file(without_torch: Path, tmp_path: Path) -> None:
    packaged = {
        path.relative_to(without_torch / "mmhealth")
        for path in (without_torch / "mmhealth").rglob("*")
        if path.suffix in (".py", ".toml", ".css", ".js", ".typed")
    }
    expected = {
        path.relative_to(ROOT / "mmhealth")
        for path in (ROOT / "mmhealth").rglob("*")
        if path.suffix in (".py", ".toml", ".css", ".js", ".typed")
    } | {
        Path("dashboards") / path.relative_to(ROOT / "dashboards")
        for path in (ROOT / "dashboards").rglob("*")
        if path.suffix in (".py", ".toml", ".css", ".js")
    }
    assert packaged == expected
