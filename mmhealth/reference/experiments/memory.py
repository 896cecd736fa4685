"""How much memory a run takes, in bytes."""

import resource
import sys
from dataclasses import fields

import torch
from torch import Tensor

from mmhealth.interventions import EssAdaptive
from mmhealth.reference.config import TrainConfig
from mmhealth.reference.loop import Trainer
from mmhealth.reference.rollout import roll_out


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def batch_bytes(config: TrainConfig, seed: int) -> int:
    """Size of the tensors of one sampled batch, as the trainer holds them."""
    ess = config.fixes.ess
    trainer = Trainer(config, seed, EssAdaptive(ess) if ess else None)
    world = trainer.environment
    prompt = torch.arange(world.prompts).repeat_interleave(config.loop.group_size)
    episodes, _ = roll_out(
        trainer.policy,
        world,
        prompt=prompt,
        horizon=torch.full_like(prompt, world.horizons[0]),
        updates=0,
        generator=torch.Generator().manual_seed(seed),
    )
    tensors = [getattr(episodes, field.name) for field in fields(episodes)]
    return sum(_held(tensor) for tensor in tensors if tensor is not None)


def _held(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
