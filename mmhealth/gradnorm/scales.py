"""Loss scales: the factors that a trajectory's term has in the loss that was backpropagated.

What is measured carries every factor of the loss that ran through ``backward``. Divide by the
product of the factors below, ``norms.per_trajectory(scale=...)``, to undo them:

- ``loss = terms.mean()`` over B trajectories: `row_mean` (B);
- ``loss = token_losses.mean()`` over N valid tokens: `token_mean` (N) leaves the norm of the
  trajectory's *summed* loss, `own_token_mean` (lengths) that of its own mean per token. (With such
  a loss a default of other libraries returns the latter as if it were the gradient: 1 / T off.)
- a `GradScaler`: ``scaler.get_scale()``;
- K accumulated micro-batches with ``loss / K``: ``1 / K``;
- data parallel over W ranks, gradients averaged: norms are of this rank's loss, before averaging;
  the averaged gradient holds 1 / W of that (to compare with it, multiply the norms by ``1 / W``).
"""

import torch
from torch import Tensor


def row_mean(trajectories: int) -> float:
    """Factor of one trajectory's term in a mean over trajectories."""
    return 1.0 / trajectories


def token_mean(tokens: int) -> float:
    """Factor of a trajectory's summed loss in a mean over all valid tokens of the batch."""
    return 1.0 / tokens


def own_token_mean(lengths: Tensor) -> Tensor:
    """(B,) float64: factor of a trajectory's mean loss per token in a mean over all tokens.

    ``lengths`` (B,) valid tokens. A trajectory without any has factor 0, and no such norm (NaN).
    """
    lengths = lengths.detach().to("cpu", torch.float64)
    return lengths / lengths.sum()
