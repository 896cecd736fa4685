"""Training with mmhealth attached is the same training, bit by bit, and its norms are exact."""

from typing import Any

import pytest
import torch
import trl
from peft import LoraConfig
from torch import Tensor

from mmhealth.integrations.trl import attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "GRPO": ("GRPO", {}),
    "GRPO, tied head": ("GRPO", {"tied": True}),
    "GRPO, tied head, groups without contrast": (
        "GRPO",
        {"tied": True, "reward_weights": [0.0, 1.0]},
    ),
    "GRPO, adapters": ("GRPO", {"peft_config": "lora", "num_iterations": 2}),
    "GRPO, reference model": ("GRPO", {"peft_config": "lora", "beta": 0.1}),
    "GRPO, checkpointing": ("GRPO", {"activation_checkpointing": True}),
    "GRPO, bfloat16": ("GRPO", {"bf16": True}),
    "GRPO, by sequence": (
        "GRPO",
        {"importance_sampling_level": "sequence", "loss_type": "grpo", "num_iterations": 2},
    ),
    "GRPO, rollouts across optimizer steps": (
        "GRPO",
        {"gradient_accumulation_steps": 3, "steps_per_generation": 2, "max_steps": 4},
    ),
    "RLOO": ("RLOO", {"tied": True}),
    "RLOO, iterations": ("RLOO", {"num_iterations": 2, "steps_per_generation": 4}),
}


def made(trainer: Any, name: str, *, dropout: float = 0.0) -> Any:
    kind, options = CASES[name]
    if "peft_config" in options:
        lora = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        options = options | {"peft_config": LoraConfig(lora_dropout=dropout, **lora)}
    return trainer(kind, **options)


def weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def watch_exact_norms(trainer: Any, found: list[tuple[int, float]]) -> None:
    """At each loss, a backward pass for each trajectory alone: all others are masked out."""
    loss_of, hooked = type(trainer)._compute_loss.__get__(trainer), trainer._compute_loss
    divides_later = isinstance(trainer, trl.RLOOTrainer)
    share = trainer.args.gradient_accumulation_steps if divides_later else 1
    trained = [p for p in trainer.model.parameters() if p.requires_grad]

    def compute(model: Any, inputs: dict[str, Any]) -> Tensor:
        for place, row in enumerate(inputs["mmhealth_row"].tolist()):
            only = torch.arange(len(inputs["advantages"])) == place
            others = {"advantages": inputs["advantages"] * only}
            others["completion_mask"] = inputs["completion_mask"] * only[:, None]
            loss = loss_of(trainer.model, inputs | others)
            gradients = torch.autograd.grad(loss / share, trained, allow_unused=True)
            square = sum(float(g.double().square().sum()) for g in gradients if g is not None)
            found.append((row, square**0.5))
        return hooked(model, inputs)

    trainer._compute_loss = compute


@pytest.mark.parametrize("name", CASES)
def test_training_is_the_same_and_norms_equal_a_backward_pass_per_trajectory(
    name, trainer, tmp_path
):
    plain = made(trainer, name)
    plain.train()
    attached = made(trainer, name)
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert not [limit for limit in attachment.limits if "norms" in limit]
    exact: list[tuple[int, float]] = []
    watch_exact_norms(attached, exact)
    attached.train()
    assert torch.equal(weights(attached), weights(plain))
    updates = open_run(tmp_path / "run").updates
    assert updates["trajectory_id"].to_list() == [row for row, _ in exact]
    measured = torch.tensor(updates["grad_norm"].to_list(), dtype=torch.float64)
    expected = torch.tensor([norm for _, norm in exact], dtype=torch.float64)
    assert expected.max() > 0
    assert "contrast" not in name or expected.min() == 0
    rtol = 0.02 if "bfloat16" in name else 1e-4
    torch.testing.assert_close(measured, expected, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("name", ["GRPO, tied head, groups without contrast", "RLOO, iterations"])
def test_a_head_that_is_given_the_scored_tokens_alone(name, trainer, tmp_path, monkeypatch):
    """As TRL does on GPUs; its kernels stay those of the CPU."""
    monkeypatch.setattr("trl.trainer.utils._use_triton", lambda _device: True)
    test_training_is_the_same_and_norms_equal_a_backward_pass_per_trajectory(
        name, trainer, tmp_path
    )


def test_random_numbers_stay_and_the_trainer_gets_its_methods_back(trainer, tmp_path):
    plain = made(trainer, "GRPO, adapters", dropout=0.3)
    plain.train()
    attached = made(trainer, "GRPO, adapters", dropout=0.3)
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert "_compute_loss" in vars(attached)
    attached.train()
    assert torch.equal(weights(attached), weights(plain))
    assert "_compute_loss" not in vars(attached)
    assert attachment.recorder.summary()["losses"] == []
