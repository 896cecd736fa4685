"""Are the trainer's methods those that are hooked? Said once, before training."""

import inspect
from typing import Any, Literal

import trl
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from mmhealth.errors import AttachError

KNOWN = "1.16"
"""Release of TRL that this was written and checked against."""

Kind = Literal["GRPO", "RLOO"]

TRAINERS: dict[Kind, type] = {"GRPO": GRPOTrainer, "RLOO": RLOOTrainer}

_METHODS = {
    "_generate_and_score_completions": ("inputs",),
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_get_per_token_logps_and_entropies": (
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "compute_entropy",
    ),
    "_compute_loss": ("model", "inputs"),
    "training_step": ("model", "inputs", "num_items_in_batch"),
}
_ATTRIBUTES = ("accelerator", "args", "model", "num_generations", "num_iterations", "state")
_SETTINGS = ("generation_batch_size", "gradient_accumulation_steps", "steps_per_generation")


def kind_of(trainer: Any) -> Kind:
    """Which trainer it is. Raises `AttachError` where its methods are not those we know."""
    kind = next((name for name, known in TRAINERS.items() if isinstance(trainer, known)), None)
    if kind is None:
        raise AttachError(
            f"{type(trainer).__name__} is neither a GRPOTrainer nor an RLOOTrainer of trl. Log "
            "from its loop with mmhealth.Recorder instead (docs/recording.md)"
        )
    for name, parameters in _METHODS.items():
        method = getattr(trainer, name, None)
        found = {} if method is None else inspect.signature(method).parameters
        if missing := [p for p in parameters if p not in found]:
            if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found.values()):
                raise AttachError(
                    f"{name}() of {type(trainer).__name__} takes *args or **kwargs, so that it "
                    "cannot be told from one of another release of trl. Name its parameters as "
                    f"trl {KNOWN} does, def {name}(self, {', '.join(parameters)}, ...), or put "
                    f"@functools.wraps({kind}Trainer.{name}) on it"
                )
            raise _differs(trainer, f"{name}() takes no {', '.join(missing)}")
    if missing := [name for name in _ATTRIBUTES if not hasattr(trainer, name)]:
        raise _differs(trainer, f"it has no {', '.join(missing)}")
    if missing := [name for name in _SETTINGS if not hasattr(trainer.args, name)]:
        raise _differs(trainer, f"its args have no {', '.join(missing)}")
    return kind


def _differs(trainer: Any, how: str) -> AttachError:
    return AttachError(
        f"{type(trainer).__name__} of trl {trl.__version__} differs from that of trl {KNOWN}, "
        f"which mmhealth knows: {how}. Install trl {KNOWN}, or log with mmhealth.Recorder "
        "(docs/recording.md)"
    )
