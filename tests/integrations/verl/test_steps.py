"""A step of each of verl's trainers (stand-ins with the fields of verl 0.9.1) as it is recorded."""

from types import SimpleNamespace

import polars as pl
import pytest
import torch

from mmhealth import open_run
from mmhealth.integrations.verl import current, older
from mmhealth.integrations.verl.recording import loss_ratio

TAGS = [
    {"min_global_steps": 4, "max_global_steps": 5},
    {"min_global_steps": 5},
    {},
    {"is_padding": True},
]
KEYS = ["a_0_0", "a_1_0", "b_0_0", "b_1_0"]


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


@pytest.fixture
def queue():
    """What the transfer queue holds; the third row was rejected whole, the second in part."""
    return {
        "response_mask": nested([1, 1], [1, 0, 0], [0], [1]),
        "loss_mask": nested([1, 1], [1, 0, 1], [1], [1]),
        "rm_scores": nested([0.0, 1.0], [0.0, 0.0, 0.0], [-1.0], [9.0]),
        "advantages": nested([0.5, 0.5], [-0.5, -0.5, -0.5], [2.0], [9.0]),
        "old_log_probs": nested([-1.0, -2.0], [-1.0, -7.0, -1.0], [-1.0], [-9.0]),
        "rollout_log_probs": nested([-1.0, -2.5], [-1.25, 3.0, -1.0], [-3.0], [-1.0]),
        "entropy": nested([0.25, 0.75], [1.0, 9.0, 2.0], [0.5], [9.0]),
    }


@pytest.fixture
def train(module, tmp_path):
    """Train one step with the current trainer; the run."""

    def train(queue, warm=0, run_dir=None):
        base = module("v1/trainer_base.py")
        current.hook_trainer(base, str(run_dir or tmp_path / "run"))
        config = {
            "algorithm": {"rollout_correction": {"rollout_is": "sequence"}},
            "actor_rollout_ref": {"rollout": {"n": 2}},
            "data": {"train_batch_size": 2},
            "trainer": {"critic_warmup": warm},
        }
        batch = SimpleNamespace(keys=KEYS, partition_id="train", tags=TAGS)
        metrics = {"actor/pg_loss": 0.25, "actor/lr": 1e-6}
        assert base.Sync(config, [(6, batch, queue, metrics)]).fit(None) == "trained"
        assert metrics["computed"] == 1.0
        return None if run_dir else open_run(tmp_path / "run")

    return train


def test_rows_are_what_the_queue_holds_without_padding(train, queue):
    run = train(queue)
    rows = run.trajectories
    assert rows["trajectory_id"].to_list() == KEYS[:3]
    assert rows["group_id"].to_list() == ["a", "a", "b"]
    assert rows["reward"].to_list() == [1.0, 0.0, -1.0]
    assert rows["role"].to_list() == ["used", "used", "filtered"]
    assert rows["behavior_lag"].to_list() == [1, 0, None]
    assert rows["length"].to_list() == [2, 2, 1]
    assert rows["turns"].to_list() == [1, 2, 1]
    assert rows["entropy"].to_list() == [0.5, 1.5, 0.5]
    updates = run.updates
    assert updates["log_weight"].to_list() == [0.5, 0.25]
    assert updates["log_weight_mismatch"].to_list() == [0.5, 0.25]
    assert updates["advantage"].to_list() == [0.5, -0.5]
    step = run.step_data(6)
    assert step.nominal_batch == 4
    assert step.scalars == {"loss": 0.25, "lr": 1e-6}
    assert run.loss_ratio == "sequence"


def test_bypass_mode_is_told_and_gives_no_weight(train, queue, caplog):
    run = train(queue | {"rollout_log_probs": queue["old_log_probs"]})
    assert "the old log probabilities are the sampler's own" in caplog.text
    assert "log_weight" not in run.updates.columns
    assert run.updates["advantage"].to_list() == [0.5, -0.5]
    assert run.events.filter(pl.col("kind") == "degraded").height == 1


def test_while_only_the_critic_warms_up_no_trajectory_is_used(train, queue):
    run = train(queue, warm=7)
    assert set(run.trajectories["role"]) == {"filtered"}
    assert run.updates.is_empty()


def test_training_goes_on_where_a_batch_is_not_as_it_should_be(train, queue, caplog):
    run = train(queue | {"advantages": nested([1.0], [1.0], [1.0], [1.0])})
    assert "advantages has other trajectories or tokens" in caplog.text
    assert run.complete_steps() == []


def test_training_goes_on_where_the_run_cannot_be_written(train, queue, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    train(queue, run_dir=tmp_path / "file" / "run")
    assert "mmhealth" in caplog.text


def test_steps_of_the_older_trainer_are_recorded(module, tmp_path):
    ray_trainer = module("ray_trainer.py")
    older.hook_trainer(ray_trainer, str(tmp_path / "run"))
    tensors = {
        "response_mask": torch.tensor([[1, 1, 0], [1, 0, 1]]),
        "old_log_probs": torch.tensor([[-1.0, -1.0, 0.0], [-2.0, 0.0, -1.0]]),
        "rollout_log_probs": torch.tensor([[-1.5, -1.0, 0.0], [-1.0, 0.0, -1.0]]),
        "advantages": torch.tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, -1.0]]),
        "token_level_scores": torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
    }
    batch = SimpleNamespace(batch=tensors, non_tensor_batch={"uid": ["p", "p"]})
    assert ray_trainer.RayPPOTrainer({}, [(1, batch), (2, batch)]).fit() == "trained"
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1, 2]
    assert run.updates["log_weight"].to_list() == [0.5, -1.0] * 2
    assert run.trajectories["reward"].to_list() == [1.0, 0.0] * 2
    assert run.trajectories["group_id"].to_list() == ["p"] * 4
    assert run.trajectories["turns"].to_list() == [1, 2] * 2


@pytest.mark.parametrize(
    ("correction", "mode", "level"),
    [(None, "vanilla", "token"), (None, "gspo", "geometric"), ("sequence", "gspo", "sequence")],
)
def test_weights_are_judged_at_the_level_that_the_loss_multiplies(correction, mode, level):
    config = {
        "algorithm": {"rollout_correction": {"rollout_is": correction}},
        "actor_rollout_ref": {"actor": {"policy_loss": {"loss_mode": mode}}},
    }
    assert loss_ratio(config) == level
