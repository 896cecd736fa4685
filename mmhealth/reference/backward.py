"""One backward pass: the loss of the rows, its gradient, and the norm each row has in it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.gradnorm import GradNorms
from mmhealth.interventions import EntropyFloor
from mmhealth.reference.config import LoopConfig, RepairConfig
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.policy import Policy, entropy, kl_divergence, sequence_log_prob


@dataclass(kw_only=True, slots=True)
class Terms:
    """What a step adds to the policy-gradient term of a row."""

    kl_coef: float = 0.0
    """Anchor to the policy that sampled, in loss units per nat."""
    floor: EntropyFloor | None = None
    """Entropy floor on strategic decisions."""
    entropy_bonus: float = 0.0
    """Reward for entropy, in loss units per nat and decision."""


@dataclass(kw_only=True, slots=True)
class Measured:
    """What a backward pass tells of its rows; tensors are (rows,)."""

    loss: float
    """Sum of the rows' terms over ``divisor``."""
    log_weight: Tensor
    """Raw log importance ratio, in nats."""
    weight: Tensor
    """What the loss multiplied in its place."""
    grad_norm: Tensor
    """Norm of the gradient of the row's term."""
    grad_cosine: Tensor | None
    """Cosine of that gradient with the whole pass's; None where it was not asked for."""


class BackwardPass:
    """Accumulates gradients in a policy, exact norms of every row beside them."""

    def __init__(
        self,
        policy: Policy,
        behavior: Policy,
        loop: LoopConfig,
        repair: RepairConfig,
        *,
        alignment: bool = False,
    ) -> None:
        self._policy = policy
        self._behavior = behavior
        self._loop = loop
        self._repair = repair
        self._alignment = alignment
        self._meter = GradNorms(policy, bitwise=True, alignment=alignment)

    def run(
        self, episodes: Episodes, advantage: Tensor, injected: Tensor, terms: Terms, divisor: int
    ) -> Measured:
        """Add the gradient of ``sum of terms / divisor`` to the policy's.

        Rows pass in microbatches of like length; the result does not depend on their number but
        for the order of sums.
        """
        count = len(episodes)
        measured = Measured(
            loss=0.0,
            log_weight=torch.zeros(count, dtype=torch.float64),
            weight=torch.zeros(count, dtype=torch.float64),
            grad_norm=torch.zeros(count, dtype=torch.float64),
            grad_cosine=None,
        )
        parts = min(self._loop.microbatches, max(count, 1))
        order = torch.arange(count) if parts == 1 else torch.argsort(episodes.length, stable=True)
        chunks = order.chunk(parts)
        with self._meter.step(*chunks if len(chunks) > 1 else [count]) as norms:
            for number, at in enumerate(chunks):
                if len(chunks) > 1:
                    norms.part(number)
                part = episodes.trimmed(at) if parts > 1 else episodes
                log_probs = self._policy(part.observations, part.allowed)
                log_prob = sequence_log_prob(log_probs, part.actions, part.valid)
                log_weight = log_prob.detach() - part.log_prob
                weight = self._weight(log_weight, part, injected[at])
                term = -weight * self._credit(log_probs, part, advantage[at])
                term = term + self._penalties(log_probs, part, terms)
                loss = term.sum() / divisor
                loss.backward()  # type: ignore[no-untyped-call]
                measured.loss += float(loss.detach())
                measured.log_weight[at] = log_weight
                measured.weight[at] = weight
        measured.grad_norm = norms.per_trajectory()
        if self._alignment:
            measured.grad_cosine = norms.alignment()
        return measured

    def _weight(self, log_weight: Tensor, part: Episodes, injected: Tensor) -> Tensor:
        clip, repair = self._loop.log_weight_clip, self._repair
        per_decision = log_weight / part.length.clamp(min=1)
        own = per_decision if self._loop.loss_ratio == "geometric" else log_weight
        kept = per_decision.clamp(repair.min_log_weight, repair.max_log_weight)
        return torch.where(injected, kept, own.clamp(-clip, clip)).exp()

    def _credit(self, log_probs: Tensor, part: Episodes, advantage: Tensor) -> Tensor:
        if advantage.ndim == 1:
            return advantage * sequence_log_prob(log_probs, part.actions, part.valid)
        chosen = log_probs.gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
        return (chosen * part.valid * advantage.gather(1, part.turn)).sum(1)

    def _penalties(self, log_probs: Tensor, part: Episodes, terms: Terms) -> Tensor:
        total = torch.zeros(len(part))
        if terms.kl_coef:
            with torch.no_grad():
                anchor = self._behavior(part.observations, part.allowed)
            total = total + terms.kl_coef * (kl_divergence(log_probs, anchor) * part.valid).sum(1)
        if terms.entropy_bonus:
            total = total - terms.entropy_bonus * (entropy(log_probs) * part.valid).sum(1)
        if terms.floor is not None:
            penalty = terms.floor.penalty(log_probs, part.allowed)
            total = total + (penalty * part.strategic).sum(1)
        return total
