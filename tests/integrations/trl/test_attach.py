"""What `attach` refuses, what it says it cannot record, and what it never does to training."""

import json
import logging
from typing import Any

import pytest
import torch

from mmhealth.errors import AttachError
from mmhealth.integrations.trl import attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_other_trainers_are_refused(tmp_path):
    with pytest.raises(AttachError, match="neither a GRPOTrainer nor an RLOOTrainer"):
        attach(object(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_methods_that_differ_are_refused_by_name(trainer, tmp_path):
    changed = trainer("GRPO")

    class Changed(type(changed)):
        def _compute_loss(self, model, batch):
            return super()._compute_loss(model, batch)

    changed.__class__ = Changed
    with pytest.raises(AttachError, match=r"Changed .* _compute_loss\(\) takes no inputs"):
        attach(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parameters_that_cannot_be_told_are_refused_with_the_way_out(trainer, tmp_path):
    attached = trainer("GRPO")

    class Passes(type(attached)):
        def _compute_loss(self, *args, **kwargs):
            return super()._compute_loss(*args, **kwargs)

    attached.__class__ = Passes
    with pytest.raises(AttachError, match=r"def _compute_loss\(self, model, inputs, \.\.\.\)"):
        attach(attached, tmp_path / "run")


@pytest.mark.parametrize("column", ["reward", "group_id", "advantage", "reward_early"])
def test_columns_of_the_dataset_do_not_replace_what_is_measured(column, trainer, tmp_path):
    attached = trainer("GRPO")
    with pytest.raises(AttachError, match=f"columns: {column} would replace"):
        attach(attached, tmp_path / "run", columns=["source", column])
    assert not (tmp_path / "run").exists()
    assert "_compute_loss" not in vars(attached)


def test_success_is_told_by_a_reward_function_that_there_is(trainer, tmp_path):
    attached = trainer("GRPO")
    with pytest.raises(AttachError, match="no reward function 'late'; there are early, short"):
        attach(attached, tmp_path / "run", success="late")
    assert not (tmp_path / "run").exists()


def test_a_loss_of_its_own_is_a_limit(trainer, tmp_path):
    attached = trainer("GRPO")
    known = type(attached)

    class Own(known):
        def _compute_loss(self, model, inputs):
            return super()._compute_loss(model, inputs)

    attached.__class__ = Own
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert attachment.limits[0].startswith("loss: Own._compute_loss is not that of trl")
    attachment.close()
    assert type(attached) is Own


def test_gmpo_multiplies_geometric_means(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

    monkeypatch.setattr("trl.GMPOTrainer", GMPOTrainer, raising=False)
    monkeypatch.setattr("trl.GMPOConfig", GMPOConfig, raising=False)
    attached = trainer("GMPO", num_iterations=2)
    attachment = attach(attached, tmp_path / "run", strict=True)
    attached.train()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["loss_ratio"] == "geometric"
    assert not [limit for limit in attachment.limits if limit.startswith("loss")]
    assert open_run(tmp_path / "run").updates["log_weight"].null_count() == 0


def test_limits_are_in_run_json(trainer, tmp_path):
    attachment = attach(trainer("GRPO"), tmp_path / "run", strict=True)
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert config["loss_ratio"] == "token"
    assert config["grad_norm"].startswith("exact norm over all trained parameters")
    assert config["config"]["limits"] == list(attachment.limits)
    assert [limit.split(":")[0] for limit in attachment.limits] == ["on-policy", "no mismatch"]
    assert config["config"]["settings"]["num_iterations"] == 1
    attachment.close()


LIMITS: dict[str, tuple[str, dict[str, Any]]] = {
    "uses a trajectory several times": (
        "GRPO",
        {"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 2},
    ),
    "model.norm.weight": ("GRPO", {}),
}


@pytest.mark.parametrize("why", LIMITS)
def test_without_exact_norms_there_are_none_and_the_reason_is_told(why, trainer, tmp_path):
    kind, options = LIMITS[why]
    attached = trainer(kind, max_steps=1, **options)
    if why == "model.norm.weight":
        attached.model.model.norm = torch.nn.RMSNorm(16)  # its rule would change the last bits
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert attachment.limits[-1].startswith("gradient norms: off, because ")
    assert why in attachment.limits[-1]
    attached.train()
    run = open_run(tmp_path / "run")
    assert "grad_norm" not in run.updates.columns
    assert len(run.updates)


def test_a_layer_unfrozen_in_training_ends_the_norms_and_nothing_else(trainer, tmp_path, caplog):
    attached = trainer("GRPO", max_steps=4)
    gain = attached.model.model.norm = torch.nn.RMSNorm(16)
    gain.requires_grad_(False)
    attach(attached, tmp_path / "run", strict=True, on_alert=lambda *_: None)
    step = attached.training_step

    def training_step(*args: Any) -> Any:
        gain.requires_grad_(attached.state.global_step >= 2)
        return step(*args)

    attached.training_step = training_step
    with caplog.at_level(logging.WARNING, "mmhealth"):
        attached.train()
    run = open_run(tmp_path / "run")
    missing = run.updates.filter(run.updates["grad_norm"].is_null())["step"].unique().to_list()
    assert missing == [2, 3]
    assert run.events.filter(run.events["kind"] == "degraded")["step"].to_list() == [2]
    assert "model.norm.weight" in caplog.text


def test_what_cannot_be_recorded_is_counted_and_training_goes_on(trainer, tmp_path, caplog):
    plain = trainer("GRPO")
    plain.train()
    attached = trainer("GRPO")
    attachment = attach(attached, tmp_path / "run")
    with caplog.at_level(logging.WARNING, "mmhealth"):
        attachment.recorder.close()
        attached.train()
    state, other = plain.model.state_dict(), attached.model.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert attachment.recorder.summary()["losses"]
    assert "could not record everything" in caplog.text


def test_an_error_of_the_trainer_s_own_is_raised_and_leaves_no_hook(trainer, tmp_path):
    attached = trainer("GRPO")
    attachment = attach(attached, tmp_path / "run", strict=True)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the user's own")

    attached.accelerator.backward = fail
    with pytest.raises(RuntimeError, match="the user's own"):
        attached.train()
    attachment.close()
    assert not attached.model.model.norm.weight._backward_hooks
    assert "_compute_loss" not in vars(attached)


def interrupted(trainer: Any, at: int, error: type[BaseException]) -> None:
    """Have the ``at``-th call of the first reward function fail."""
    reward, calls = trainer.reward_funcs[0], []

    def fails(**kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise error
        return reward(**kwargs)

    trainer.reward_funcs[0] = fails


def test_a_second_attach_ends_the_first(trainer, tmp_path):
    attached = trainer("GRPO", num_iterations=2, max_steps=4)
    known = type(attached)
    interrupted(attached, 2, KeyboardInterrupt)
    first = attach(attached, tmp_path / "run", strict=True)
    with pytest.raises(KeyboardInterrupt):
        attached.train()
    second = attach(attached, tmp_path / "run", strict=True)
    attached.train()
    assert not first.recorder.summary()["losses"]
    assert not second.recorder.summary()["losses"]
    run = open_run(tmp_path / "run")
    assert set(run.steps["attempt"]) == {1}
    assert not run.updates["grad_norm"].null_count()
    assert type(attached) is known
    assert "_compute_loss" not in vars(attached)
    plain = trainer("GRPO", num_iterations=2, max_steps=4)
    interrupted(plain, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        plain.train()
    plain.train()
    pairs = zip(plain.model.parameters(), attached.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_training_that_goes_on_unattached_after_an_error_is_not_recorded(trainer, tmp_path, caplog):
    attached = trainer("GRPO", max_steps=6, save_strategy="steps", save_steps=2)
    known = type(attached)
    interrupted(attached, 5, RuntimeError)
    attach(attached, tmp_path / "run", strict=True)
    with pytest.raises(RuntimeError):
        attached.train()
    with caplog.at_level(logging.WARNING, "mmhealth"):
        attached.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert attached.state.global_step == 6
    assert open_run(tmp_path / "run").steps["step"].to_list() == [0, 1, 2, 3]
    assert "records nothing of this call of train()" in caplog.text
    assert type(attached) is known


def test_a_resumed_run_is_a_new_attempt_that_continues_the_steps(trainer, tmp_path):
    first = trainer("GRPO", max_steps=4, save_strategy="steps", save_steps=2)
    attach(first, tmp_path / "run", strict=True)
    first.train()
    again = trainer("GRPO", max_steps=4, save_strategy="no")
    attach(again, tmp_path / "run", strict=True)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    run = open_run(tmp_path / "run")
    assert run.steps["step"].to_list() == [0, 1, 2, 3]
    assert run.steps["attempt"].to_list() == [0, 0, 1, 1]
