"""An entropy floor: a KL penalty that acts only where the policy's entropy is below a threshold.

After Challapally (2026), first intervention: "not a reward bonus, a floor". An entropy bonus pays
for entropy everywhere and at all times; the floor pays nothing once the threshold is met. Cost: one
pass over the log probabilities and as much memory as they take, kept for the backward pass. Bias:
where a task is rightly settled early it goes on exploring; end it with the ramp of the staged
objectives.
"""

from typing import TYPE_CHECKING

from mmhealth.interventions.arrays import not_negative, positive

if TYPE_CHECKING:
    from torch import Tensor


class EntropyFloor:
    """``coef * KL(uniform || policy)`` wherever the entropy is below ``threshold`` nats.

    Its gradient in the logits is ``coef * (policy - uniform)``: bounded, and strongest where the
    policy is most certain. A threshold of more than log(choices) can never be met. Raises
    ValueError unless ``threshold`` is above 0 and ``coef`` at least 0.
    """

    def __init__(self, threshold: float, coef: float = 1.0) -> None:
        positive(threshold, "threshold")
        not_negative(coef, "coef")
        self.threshold = threshold
        self.coef = coef

    def penalty(self, log_probs: "Tensor", allowed: "Tensor | None" = None) -> "Tensor":
        """Penalty of each decision (...,), to be added to the loss, from tensors (..., choices).

        Args:
            log_probs: log probabilities in nats (they are renormalised over the allowed choices, so
                logits do as well); -inf is welcome at choices that are not allowed.
            allowed: bool (..., choices); by default the choices whose log probability is not -inf.
                Both the entropy and the uniform distribution are over these. A decision with one
                choice or none has penalty 0.

        No gradient flows through the comparison with the threshold. NaN stays NaN.
        """
        if allowed is None:
            allowed = log_probs != -float("inf")
        hidden = ~allowed
        count = allowed.sum(-1)
        empty = (count == 0).unsqueeze(-1)
        visible = log_probs.masked_fill(hidden, -float("inf")).masked_fill(empty, 0.0)
        logs = (visible - visible.logsumexp(-1, keepdim=True)).masked_fill(hidden, 0.0)
        entropy = -(logs.detach().exp() * logs.detach()).sum(-1)
        choices = count.clamp(min=1).to(logs.dtype)
        divergence = -choices.log() - logs.sum(-1) / choices
        return self.coef * divergence.masked_fill(entropy >= self.threshold, 0.0)
