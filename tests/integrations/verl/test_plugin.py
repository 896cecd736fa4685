"""The plugin in a process that imports (a stand-in for) verl, through its entry point."""

from mmhealth import open_run

TRAIN = """
from types import SimpleNamespace
import torch
import verl
from verl.trainer.ppo import ray_trainer
from verl.trainer.ppo.v1.trainer_base import Sync

ones = torch.ones(2, 3)
queue = {"response_mask": ones, "old_log_probs": -ones, "rollout_log_probs": -2 * ones}
batch = SimpleNamespace(keys=["a_0_0", "a_1_0"], partition_id="train", tags=[{}, {}])
print(Sync({}, [(1, batch, queue, {}), (2, batch, queue, {})]).fit(None))
"""


def test_it_records_where_the_variable_says_so_and_says_it_once(python, tmp_path):
    done = python(TRAIN, MMHEALTH_RUN_DIR=str(tmp_path / "run"))
    assert done.stdout == "trained\n"
    assert done.stderr == f"mmhealth: will record verl's steps in {tmp_path / 'run'}\n"
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1, 2]
    assert run.updates["log_weight"].to_list() == [3.0] * 4


def test_without_the_variable_it_is_silent_and_imports_nothing(python, tmp_path):
    done = python(
        "import sys, verl, verl.trainer.ppo.v1.trainer_base as base\n"
        "assert not {'polars', 'numpy', 'pyarrow'} & sys.modules.keys()\n"
        "assert not hasattr(base.PPOTrainer.fit, '__wrapped__')\n"
        "print('mmhealth.integrations.verl.plugin' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_verl_with_other_methods_is_told_and_left_alone(verl, python, tmp_path):
    file = verl / "verl/trainer/ppo/v1/trainer_base.py"
    file.write_text(file.read_text().replace("timing_raw, global_steps", "timing_raw, step"))
    done = python(
        "import verl, verl.trainer.ppo.v1.trainer_base as base\n"
        "print(hasattr(base.PPOTrainer.fit, '__wrapped__'))",
        MMHEALTH_RUN_DIR=str(tmp_path / "run"),
    )
    assert done.stdout == "False\n"
    assert done.stderr.startswith("mmhealth: does NOT record verl: PPOTrainer differs")
    assert "_compute_metrics() takes no global_steps" in done.stderr
    assert not (tmp_path / "run").exists()
