"""What a trainer's settings let us record: the level of its weights, and what is left out."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mmhealth.integrations.trl.signatures import TRAINERS, Kind

ON_POLICY = (
    "on-policy: each rollout batch is used up in the optimizer step that follows it, so that every "
    "importance ratio is 1 and the weight ESS says nothing"
)
NO_MISMATCH = (
    "no mismatch: the sampler gives no log probabilities, so that the ratio of trainer to sampler "
    "is not known"
)
TWICE = (
    "gradient norms: off, because an optimizer step uses a trajectory several times "
    "(gradient_accumulation_steps above steps_per_generation with num_iterations above 1)"
)


OWN_LOSS = (
    "loss: {where}._compute_loss is not that of trl; the level of weights is recorded as {level}, "
    "which is that of trl's with these settings"
)


@dataclass(slots=True)
class Modes:
    """What is recorded, and how."""

    loss_ratio: Literal["token", "sequence", "geometric"]
    """Level at which the loss forms its ratio."""
    limits: list[str] = field(default_factory=list)
    """What is left out, in words."""
    no_norms: str | None = None
    """Why gradient norms are not taken, as far as the settings say."""


def modes_of(trainer: Any, kind: Kind) -> Modes:
    """Read a trainer's settings."""
    geometric = _is_gmpo(trainer)
    modes = Modes("geometric" if geometric else _level(trainer, kind))
    if (where := _own_loss(trainer, kind)) and not geometric:
        modes.limits.append(OWN_LOSS.format(where=where, level=modes.loss_ratio))
    corrects = _corrects(trainer)
    if kind == "RLOO" or not (trainer.use_vllm or trainer.rollout_func):
        modes.limits += [ON_POLICY, NO_MISMATCH] if _aligned(trainer) else [NO_MISMATCH]
    elif not corrects:
        modes.limits.append(
            "mismatch: recorded as part of the log weights, although the loss does not multiply it"
        )
    if corrects and modes.loss_ratio == "token" and _by_sequence(trainer):
        modes.limits.append(
            "two levels: the loss multiplies token ratios by a sequence's ratio of trainer to "
            "sampler; weights are recorded by token"
        )
    modes.no_norms = _no_norms(trainer)
    return modes


def _level(trainer: Any, kind: Kind) -> Literal["token", "sequence", "geometric"]:
    if kind == "RLOO" or trainer.loss_type == "vespo":
        return "sequence"
    if trainer.importance_sampling_level == "sequence":
        return "geometric"
    if _aligned(trainer) and _corrects(trainer) and _by_sequence(trainer):
        return "sequence"
    return "token"


def _own_loss(trainer: Any, kind: Kind) -> str | None:
    """The class, or the trainer, that puts its own loss before that of trl."""
    if "_compute_loss" in vars(trainer):
        return "the trainer's own"
    mro = type(trainer).__mro__
    before = mro[: mro.index(TRAINERS[kind])]
    return next((c.__name__ for c in before if "_compute_loss" in vars(c)), None)


def _is_gmpo(trainer: Any) -> bool:
    """Whether the loss is that of GMPO, exp of the mean of a sequence's log ratios."""
    owner = next(c for c in type(trainer).__mro__ if "_compute_loss" in vars(c))
    return owner.__name__ == "GMPOTrainer" and owner.__module__.startswith("trl.")


def _no_norms(trainer: Any) -> str | None:
    reasons = {
        "the model is compiled": trainer.args.torch_compile,
        "DeepSpeed shards the model": getattr(trainer, "is_deepspeed_enabled", False),
        "FSDP shards the model": getattr(trainer, "is_fsdp_enabled", False),
        "DataParallel replicates the model; launch one process a GPU": trainer.args.n_gpu > 1,
        "a balance loss of experts couples trajectories": getattr(
            trainer, "aux_loss_enabled", False
        ),
    }
    if reason := next((why for why, holds in reasons.items() if holds), None):
        return f"gradient norms: off, because {reason}"
    args = trainer.args
    twice = args.gradient_accumulation_steps > args.steps_per_generation
    return TWICE if twice and trainer.num_iterations > 1 else None


def _aligned(trainer: Any) -> bool:
    args = trainer.args
    uses: int = args.steps_per_generation * trainer.num_iterations
    return bool(args.gradient_accumulation_steps % uses == 0)


def _corrects(trainer: Any) -> bool:
    """Whether the loss multiplies the ratio of trainer to sampler."""
    uses_vllm = getattr(trainer, "use_vllm", False)
    return bool(uses_vllm and getattr(trainer, "vllm_importance_sampling_correction", False))


def _by_sequence(trainer: Any) -> bool:
    return str(getattr(trainer, "vllm_importance_sampling_mode", "")).startswith("sequence")
