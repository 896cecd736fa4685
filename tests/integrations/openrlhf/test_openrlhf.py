"""OpenRLHF's trainer as stand-ins with the methods and fields of openrlhf 0.11.2."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from mmhealth import open_run
from mmhealth.errors import AttachError
from mmhealth.integrations import openrlhf

ARGS = SimpleNamespace(
    rollout=SimpleNamespace(batch_size=2, n_samples_per_prompt=2),
    actor=SimpleNamespace(policy_loss_type="gspo", loss_agg_mode="token-mean"),
)


@dataclass
class Experience:
    """The fields that are read, as in ``openrlhf/trainer/ppo_utils/experience.py``."""

    action_mask: Any = None
    action_log_probs: Any = None
    base_action_log_probs: Any = None
    rollout_log_probs: Any = None
    advantages: Any = None
    rewards: Any = None
    index: list[int] | None = None


class Maker:
    def make_experience_batch(self, rollout_samples):
        return rollout_samples


def trainer_class():
    class BasePPOTrainer:
        def __init__(self, maker=None):
            self.args, self.experience_maker = ARGS, maker or Maker()

        def train_step(self, rollout_samples, global_step):
            self.experience_maker.make_experience_batch(rollout_samples)
            return {"trained": len(rollout_samples)}, global_step + 1

    return BasePPOTrainer


def micro_batches():
    """Out of order, as after balancing by length; padded to the longest of each."""
    return [
        Experience(
            action_mask=torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0]], dtype=torch.bool),
            action_log_probs=torch.tensor([[-1.0, -1.0, 0.0, -1.0], [-2.0, -1.0, 0.0, 0.0]]),
            rollout_log_probs=torch.tensor([[-1.5, -1.0, 0.0, -1.0], [-1.0, -1.0, 0.0, 0.0]]),
            advantages=torch.tensor([[0.5] * 4, [-0.5] * 4]),
            rewards=torch.tensor([1.0, 0.0], dtype=torch.bfloat16),
            index=[3, 0],
        ),
        Experience(
            action_mask=torch.tensor([[True], [True]]),
            action_log_probs=torch.tensor([[-1.0], [-1.0]]),
            rollout_log_probs=torch.tensor([[-1.25], [-1.0]]),
            advantages=torch.tensor([[1.0], [-1.0]]),
            rewards=torch.tensor([1.0, 0.0]),
            index=[1, 2],
        ),
    ]


def test_steps_are_recorded_under_the_number_that_openrlhf_logs(tmp_path):
    mine = trainer_class()
    openrlhf.attach(mine, tmp_path / "run")
    trainer = mine()
    assert trainer.train_step(micro_batches(), 0) == ({"trained": 2}, 1)
    assert trainer.train_step(micro_batches(), 1) == ({"trained": 2}, 2)
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1, 2]
    rows = run.trajectories.filter(run.trajectories["step"] == 2).sort("trajectory_id")
    assert rows["trajectory_id"].to_list() == [0, 1, 2, 3]
    assert rows["group_id"].to_list() == [0, 0, 1, 1]
    assert rows["reward"].to_list() == [0.0, 1.0, 0.0, 1.0]
    assert rows["length"].to_list() == [2, 1, 1, 3]
    assert rows["turns"].to_list() == [1, 1, 1, 2]
    updates = run.updates.filter(run.updates["step"] == 2).sort("trajectory_id")
    assert updates["log_weight"].to_list() == [-1.0, 0.25, 0.0, 0.5]
    assert updates["log_weight_mismatch"].to_list() == [-1.0, 0.25, 0.0, 0.5]
    assert updates["advantage"].to_list() == [-0.5, 1.0, -1.0, 0.5]
    assert run.loss_ratio == "geometric"
    assert run.step_data(1).nominal_batch == 4


def test_one_object_can_be_attached_and_others_are_not(tmp_path):
    mine = trainer_class()
    trainer, other = mine(), mine()
    openrlhf.attach(trainer, tmp_path / "run")
    other.train_step(micro_batches(), 4)
    trainer.train_step(micro_batches(), 6)
    assert open_run(tmp_path / "run").complete_steps() == [7]


def test_without_log_probabilities_of_the_sampler_the_weight_is_unknown(tmp_path, caplog):
    batches = micro_batches()
    for batch in batches:
        batch.rollout_log_probs = None
    trainer = trainer_class()()
    openrlhf.attach(trainer, tmp_path / "run")
    trainer.train_step(batches, 0)
    assert "log_weight" not in open_run(tmp_path / "run").updates.columns
    assert "sampler's log probabilities are not in the batch" in caplog.text


def test_another_experience_maker_is_told_and_training_goes_on(tmp_path, caplog):
    class Other:
        def make_experience_batch(self, samples):
            return samples

    trainer = trainer_class()(Other())
    openrlhf.attach(trainer, tmp_path / "run")
    assert trainer.train_step(micro_batches(), 0) == ({"trained": 2}, 1)
    assert "make_experience_batch() takes no rollout_samples" in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_read_is_a_loss_and_no_error(tmp_path, caplog):
    batches = micro_batches()
    batches[0].index = [3]
    trainer = trainer_class()()
    openrlhf.attach(trainer, tmp_path / "run")
    assert trainer.train_step(batches, 0) == ({"trained": 2}, 1)
    assert "step 1" in caplog.text
    assert open_run(tmp_path / "run").complete_steps() == []


def test_another_trainer_is_refused():
    with pytest.raises(AttachError, match=r"Maker differs .* it has no train_step\(\)"):
        openrlhf.attach(Maker(), "nowhere")


def test_setup_waits_for_the_trainers_module(tmp_path, monkeypatch, capsys):
    module = ModuleType("openrlhf.trainer.ppo_trainer")
    module.BasePPOTrainer = trainer_class()
    monkeypatch.setitem(sys.modules, "openrlhf.trainer.ppo_trainer", module)
    monkeypatch.delenv("MMHEALTH_RUN_DIR", raising=False)
    openrlhf.setup()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("MMHEALTH_RUN_DIR", str(tmp_path / "run"))
    openrlhf.setup()
    said = f"mmhealth: will record the steps of OpenRLHF's trainer in {tmp_path / 'run'}\n"
    assert capsys.readouterr().err == said
    module.BasePPOTrainer().train_step(micro_batches(), 0)
    assert open_run(tmp_path / "run").complete_steps() == [1]
