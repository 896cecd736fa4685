"""The reference trainer's updates: each environment's policy and batch, with its microbatches."""

import torch
from torch import Tensor

from gradnorms.workload import Args, Bars, Call, Part, Workload
from gradnorms.workloads import Make
from mmhealth.gradnorm import batch_rows
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.loop import Trainer
from mmhealth.reference.policy import sequence_log_prob
from mmhealth.reference.presets import ENVIRONMENTS, preset

BARS = Bars(1.10, 1.001, 1.1, extra_ms=0.5)


def terms(call: Call, *args: Tensor) -> Tensor:
    """(rows,) of -rho A log pi / N, as `mmhealth.reference.backward` has them."""
    observations, actions, valid, old, credit, *allowed = args
    log_prob = sequence_log_prob(call(observations, *allowed), actions, valid)
    weight = (log_prob.detach() - old).clamp(-20, 20).exp()
    return -weight * credit * log_prob


def workload(environment: str) -> Workload:
    """One update of the baseline preset, on the batch of its first step."""
    trainer = Trainer(preset(environment), seed=0)
    episodes, _ = trainer.sample(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the output layer starts at zero: without this nothing reaches others
        for parameter in trainer.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    credit = torch.randn(len(episodes), generator=generator) / len(episodes)
    number = min(trainer.config.loop.microbatches, len(episodes))
    order = torch.argsort(episodes.length, stable=True)
    chunks = order.chunk(number) if number > 1 else [torch.arange(len(episodes))]
    parts = [
        Part(_args(episodes.trimmed(at) if number > 1 else episodes, credit[at]), at)
        for at in chunks
    ]
    sizes = f"{trainer.environment.features}-{trainer.config.loop.hidden}"
    return Workload(
        f"policy-{environment}",
        f"policy of {environment}: {sizes}-{trainer.environment.choices}, "
        f"{' x '.join(map(str, episodes.valid.shape))} decisions"
        + (f" in {number} microbatches" if number > 1 else ""),
        trainer.policy,
        parts,
        terms,
        lambda i: _args(episodes.trimmed(torch.tensor([i])), credit[i : i + 1]),
        {"": lambda: [batch_rows(at) for at in chunks]},
        {"": BARS},
    )


def all_policies() -> dict[str, Make]:
    """Workloads by name, made when called."""
    return {f"policy-{name}": lambda name=name: workload(name) for name in ENVIRONMENTS}


def _args(episodes: Episodes, credit: Tensor) -> Args:
    allowed = () if episodes.allowed is None else (episodes.allowed,)
    return (
        episodes.observations,
        episodes.actions,
        episodes.valid,
        episodes.log_prob,
        credit.double(),
        *allowed,
    )
