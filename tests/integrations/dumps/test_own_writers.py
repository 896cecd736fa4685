"""Dumps written by the trainers' own code, where their packages are installed.

TRL's is in tests/integrations/trl, TensorBoard's and W&B's in test_scalars.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump

pytestmark = pytest.mark.filterwarnings("ignore")


def own(module: str) -> Any:
    """A trainer's module; the test is skipped where it cannot be imported."""
    return pytest.importorskip(module, exc_type=ImportError)


def test_verl_file_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = own("verl.utils.tracking")
    monkeypatch.setenv("VERL_FILE_LOGGER_ROOT", str(tmp_path))
    logger = tracking.FileLogger("project", "experiment")
    for step in (1, 2):
        values = {"actor/entropy": np.float32(0.5), "critic/score/mean": 0.25, "actor/lr": 1e-6}
        logger.log(values | {"actor/grad_norm": float("nan")}, step)
    logger.finish()
    done = import_dump(tmp_path, tmp_path / "run")
    assert (done.format, done.steps, done.problems.count) == ("verl-file", 2, 0)
    steps = open_run(tmp_path / "run").steps
    assert (steps["entropy"].to_list(), steps["reward"].to_list()) == ([0.5] * 2, [0.25] * 2)
    assert steps["grad_norm"].is_nan().all()


def tinker_store(folder: Path) -> Any:
    """What a run of tinker-cookbook writes through."""
    storage = own("tinker_cookbook.stores.storage").LocalStorage(folder)
    return own("tinker_cookbook.stores.training_store").TrainingRunStore(storage)


def test_tinker_rollouts(tmp_path: Path) -> None:
    logging = own("tinker_cookbook.rl.rollout_logging")
    types = own("tinker_cookbook.rl.types")
    store = tinker_store(tmp_path)
    ob = SimpleNamespace(length=9)

    def trajectory(reward: float) -> Any:
        turn = types.Transition(
            ob=ob, ac=SimpleNamespace(tokens=[1, 2, 3]), reward=reward, episode_done=True
        )
        return types.Trajectory(transitions=[turn], final_ob=ob)

    group = types.TrajectoryGroup(
        trajectories_G=[trajectory(0.0), trajectory(1.0)],
        final_rewards_G=[0.0, 1.0],
        metrics_G=[{}, {}],
    )
    for step in (0, 1):
        records = logging.serialize_rollout_summaries(
            split="train",
            iteration=step,
            trajectory_groups_P=[group, group],
            taglist_P=[["math"], []],
            sampling_client_steps_P=[step, max(0, step - 1)],
        )
        store.write_rollouts(step, records)
    done = import_dump(tmp_path, tmp_path / "run")
    assert (done.format, done.steps, done.rows) == ("tinker-cookbook", 2, 8)
    assert done.problems.count == 0
    rows = open_run(tmp_path / "run").trajectories
    assert rows["reward"].to_list() == [0.0, 2.0] * 4
    assert rows["length"].to_list() == [3] * 8
    assert rows["behavior_lag"].to_list() == [0] * 4 + [0, 0, 1, 1]


def test_tinker_metrics(tmp_path: Path) -> None:
    store = tinker_store(tmp_path)
    for step in range(3):
        store.write_metrics({"env/all/reward/total": 0.5, "optim/entropy": 1.5}, step)
    done = import_dump(tmp_path, tmp_path / "run")
    assert (done.format, done.steps, done.problems.count) == ("metrics-jsonl", 3, 0)
    steps = open_run(tmp_path / "run").steps
    assert (steps["reward"].to_list(), steps["entropy"].to_list()) == ([0.5] * 3, [1.5] * 3)


def test_ms_swift_completions(tmp_path: Path) -> None:
    swift = own("swift.utils.io_utils")
    writer = swift.JsonlWriter(str(tmp_path / "completions.jsonl"))
    for step in (1, 2):
        writer.append(
            {
                "step": [str(step)] * 2,
                "prompt": ["p", "p"],
                "completion": ["a", "b"],
                "Accuracy": [0.0, 1.0],
                "advantages": [-0.5, 0.5],
                "entropy": [0.1, 0.2],
            }
        )
    done = import_dump(tmp_path, tmp_path / "run")
    assert (done.format, done.steps, done.rows) == ("ms-swift", 2, 4)
    assert done.problems.count == 0
    run = open_run(tmp_path / "run")
    assert run.trajectories["reward"].to_list() == [0.0, 1.0] * 2
    assert run.updates["advantage"].to_list() == [-0.5, 0.5] * 2
