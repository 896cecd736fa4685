"""SkyRL's trainer and batch as stand-ins with the methods and fields of skyrl 0.3.0."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmhealth import open_run
from mmhealth.errors import AttachError
from mmhealth.integrations.skyrl import attach


class Batch(dict[str, Any]):
    """A ``TrainingInputBatch``: a mapping of tensors, some None, with metadata."""

    metadata: dict[str, Any]


class Trainer:
    def __init__(self, step=1, correction=None):
        algorithm = SimpleNamespace(
            policy_loss_type="regular",
            off_policy_correction=SimpleNamespace(tis_ratio_type=correction),
        )
        self.cfg = SimpleNamespace(
            trainer=SimpleNamespace(train_batch_size=2, algorithm=algorithm),
            generator=SimpleNamespace(n_samples_per_prompt=2),
        )
        self.global_step = step

    def compute_advantages_and_returns(self, data):
        data["advantages"] = torch.tensor([[0.5] * 3, [-0.5] * 3, [0.0] * 3, [0.5] * 3])
        return data


def batch(**changes):
    """Three trajectories, the last masked by ``zero_variance_filter``; and a row of padding."""
    made = Batch(
        loss_mask=torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0]]),
        action_log_probs=torch.tensor([[-1.0] * 3, [-2.0] * 3, [-1.0] * 3, [-1.0] * 3]),
        rollout_logprobs=torch.tensor([[-1.5] * 3, [-1.0] * 3, [-9.0] * 3, [-1.5] * 3]),
        base_action_log_probs=None,
        rewards=torch.tensor([[0.0, 0.0, 1.0], [0.0] * 3, [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        values=None,
    )
    made.update(changes)
    made.metadata = {"uids": ["u", "u", "v", "pad0"], "pad_size": 1}
    return made


def test_rows_have_the_rewards_and_groups_that_callbacks_do_not_see(tmp_path):
    trainer = Trainer(step=3, correction="sequence")
    session = attach(trainer, tmp_path / "run")
    data = batch()
    assert trainer.compute_advantages_and_returns(data) is data
    session.close()
    run = open_run(tmp_path / "run")
    rows = run.trajectories
    assert run.complete_steps() == [3]
    assert rows["reward"].to_list() == [1.0, 0.0, 1.0]
    assert rows["group_id"].to_list() == ["u", "u", "v"]
    assert rows["role"].to_list() == ["used", "used", "filtered"]
    assert rows["length"].to_list() == [3, 2, None]
    assert rows["turns"].to_list() == [1, 2, None]
    assert run.updates["log_weight"].to_list() == [1.5, -2.0]
    assert run.updates["advantage"].to_list() == [0.5, -0.5]
    assert run.loss_ratio == "sequence"
    assert run.step_data(3).nominal_batch == 4


def test_stepwise_only_the_last_turn_carries_the_reward(tmp_path):
    trainer = Trainer()
    attach(trainer, tmp_path / "run")
    data = batch()
    data.metadata["is_last_step"] = [False, True, True, True]
    trainer.compute_advantages_and_returns(data)
    assert open_run(tmp_path / "run").trajectories["reward"].to_list() == [None, 0.0, 1.0]


def test_without_log_probabilities_of_the_sampler_the_weight_is_unknown(tmp_path, caplog):
    trainer = Trainer()
    attach(trainer, tmp_path / "run")
    trainer.compute_advantages_and_returns(batch(rollout_logprobs=None))
    assert "log_weight" not in open_run(tmp_path / "run").updates.columns
    assert "sampler's log probabilities are not in the batch" in caplog.text


def test_a_batch_that_cannot_be_read_is_a_loss_and_no_error(tmp_path, caplog):
    trainer = Trainer()
    attach(trainer, tmp_path / "run")
    data = batch(rollout_logprobs=torch.zeros(4, 2))
    assert trainer.compute_advantages_and_returns(data) is data
    assert "sampler has other trajectories or tokens" in caplog.text
    assert open_run(tmp_path / "run").complete_steps() == []


def test_another_trainer_is_refused_before_it_trains(tmp_path):
    class Other(Trainer):
        def compute_advantages_and_returns(self, batch):
            return batch

    with pytest.raises(AttachError, match=r"compute_advantages_and_returns\(\) takes no data"):
        attach(Other(), tmp_path / "run")
    lost = Trainer()
    del lost.global_step
    with pytest.raises(AttachError, match="has no global_step"):
        attach(lost, tmp_path / "run")
    assert not (tmp_path / "run").exists()
