"""The policy: one hidden layer, then a softmax over the choices of every decision."""

import torch
from torch import Tensor, nn

FORBIDDEN = -1e9
"""Logit of a choice that is not allowed: probability 0 without an infinity in any gradient."""


class Policy(nn.Module):
    """Observations (rows, decisions, features) to log-probabilities (rows, decisions, choices).

    Uniform at initialisation, or as ``prior`` (choices,) says: the output weights start at zero.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        choices: int,
        generator: torch.Generator,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, choices)
        with torch.no_grad():
            self.hidden.weight.normal_(0.0, features**-0.5, generator=generator)
            self.hidden.bias.zero_()
            self.output.weight.zero_()
            self.output.bias.zero_()
            if prior is not None:
                self.output.bias.copy_(prior)

    def forward(self, observations: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Log-probabilities of all choices, float64: thousands of them are added up.

        ``allowed`` (rows, decisions, choices) bool.
        """
        logits: Tensor = self.output(torch.tanh(self.hidden(observations)))
        if allowed is not None:
            logits = logits.masked_fill(~allowed, FORBIDDEN)
        return logits.log_softmax(-1, dtype=torch.float64)


def sequence_log_prob(log_probs: Tensor, actions: Tensor, valid: Tensor) -> Tensor:
    """(rows,) float64 log-probability of episodes; actions and valid are (rows, decisions).

    Summed in float64: over thousands of decisions float32 would lose the log importance ratio.
    """
    chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return (chosen.double() * valid).sum(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy of every decision in nats: (..., choices) -> (...)."""
    return -(log_probs.exp() * log_probs).sum(-1)


def kl_divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) of every decision in nats: (..., choices) twice -> (...)."""
    return (log_probs.exp() * (log_probs - reference)).sum(-1)


def sample(log_probs: Tensor, generator: torch.Generator) -> Tensor:
    """One choice for every decision: (..., choices) -> (...) int64."""
    flat = log_probs.exp().reshape(-1, log_probs.shape[-1])
    drawn = torch.multinomial(flat, 1, replacement=True, generator=generator)
    return drawn.reshape(log_probs.shape[:-1])
