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
