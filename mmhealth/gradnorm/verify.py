"""`Verification`: norms of a few trajectories by real backward passes, to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Target

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_LOW_PRECISION_TOLERANCE = 0.05
"""Of dtypes with fewer bits than float32, and under autocast."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Chosen trajectories and the norm of each by its own backward pass."""

    chosen: list[int]
    norms: list[float]
    tolerance: float

    @classmethod
    def of(
        cls, terms: Tensor, targets: Sequence[Target], trajectories: int, seed: int
    ) -> "Verification":
        """Backpropagate (B,) terms one by one, for some of them drawn with ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        chosen = sorted(torch.randperm(len(terms), generator=generator)[:trajectories].tolist())
        parameters = [t.parameter for t in targets]
        norms = []
        for i in chosen:
            gradients = torch.autograd.grad(
                terms[i], parameters, retain_graph=True, allow_unused=True
            )
            squares = [
                float(torch.linalg.vector_norm(g, dtype=torch.float64)) ** 2
                for g in gradients
                if g is not None
            ]
            norms.append(sum(squares) ** 0.5)
        dtypes = {p.dtype for p in parameters}
        tolerance = max(_TOLERANCE.get(dtype, _LOW_PRECISION_TOLERANCE) for dtype in dtypes)
        if torch.is_autocast_enabled(terms.device.type):
            tolerance = _LOW_PRECISION_TOLERANCE
        return cls(chosen, norms, tolerance)

    def problem(self, squares: Tensor) -> str | None:
        """What differs from the (B,) squared norms measured, None if nothing does."""
        for i, real in zip(self.chosen, self.norms, strict=True):
            measured = max(float(squares[i]), 0.0) ** 0.5
            largest = max(self.norms)
            if abs(measured - real) > self.tolerance * max(real, 1e-6 * largest):
                return (
                    f"trajectory {i}: norm {measured:.6g} measured, {real:.6g} by a backward pass "
                    "of its own. Rows are charged to the wrong trajectory, the loss couples "
                    "trajectories, or terms.sum() is not the loss that was backpropagated"
                )
        return None
