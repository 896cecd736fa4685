"""`Dots`: products ``<G_i, G>`` of each trajectory's gradient with the gradient of all.

G is known when the last summand is, so summands have to wait for it: those of one weight at a time
in a step of one part, all of them in a step of several. Where they would take too much memory,
``<G_i, G> = sum over rows of (g G) x`` needs one more product in their place.
"""

from collections.abc import Container

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Target


class Dots:
    """The account of one step for trajectories 0 .. count - 1."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._entries: list[tuple[Target, Tensor, Tensor]] = []

    def anew(self) -> "Dots":
        """An empty account of as many trajectories."""
        return Dots(self.count)

    def add(self, target: Target, index: Tensor, dots: Tensor) -> None:
        """Add (n,) products of the trajectories ``index``."""
        self._entries.append((target, index, dots))

    def take(self, target: Target, index: Tensor, gradients: Tensor) -> None:
        """Take (members, ...) gradients that are all there is of the target."""
        if len(gradients):
            flat = gradients.reshape(len(gradients), -1)
            self.add(target, index, flat @ flat.sum(0))

    def take_rows(self, target: Target, owner: Tensor, rows: Tensor, gradients: Tensor) -> None:
        """Take (entries, d) gradients of a table's rows that are all there is of it."""
        read, at = rows.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        whole = gradients.new_zeros(len(read), gradients.shape[1]).index_add_(0, at, gradients)
        self.add(target, owner, (gradients * whole[at]).double().sum(1))

    def totals(self, without: Container[str]) -> Tensor:
        """(count,) float64 products over all targets."""
        total = torch.zeros(self.count, dtype=torch.float64)
        for target, index, dots in self._entries:
            if target.parent not in without:
                total.index_add_(0, index.cpu(), dots.cpu().double())
        return total
