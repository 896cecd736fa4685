"""The policy: one hidden layer, then a softmax over the choices of every decision."""

import torch
from torch import Tensor, nn


class Policy(nn.Module):
    """Observations (rows, decisions, features) to log-probabilities (rows, decisions, choices).

    Uniform at initialisation: the output layer starts at zero.
    """

    def __init__(
        self, features: int, hidden: int, choices: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, choices)
        with torch.no_grad():
            self.hidden.weight.normal_(0.0, features**-0.5, generator=generator)
            self.hidden.bias.zero_()
            self.output.weight.zero_()
            self.output.bias.zero_()

    def forward(self, observations: Tensor) -> Tensor:
        """Log-probabilities of all choices."""
        logits: Tensor = self.output(torch.tanh(self.hidden(observations)))
        return logits.log_softmax(-1)


def sequence_log_prob(log_probs: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of episodes: (rows, decisions, choices), (rows, decisions) -> (rows,)."""
    return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)


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
