"""`Verification`: norms of a few trajectories by real backward passes, to compare with."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Target

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_LOW_PRECISION_TOLERANCE = 0.05
"""Of dtypes with fewer bits than float32, and under autocast."""

Changes = Callable[[Target, Tensor], Iterable[tuple[str, float]]]
"""What sketching changes in a squared norm, given the gradient: of the parameter or its entries."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Chosen trajectories and their squared norms by backward passes of their own."""

    chosen: list[int]
    tolerance: float
    exact: dict[str, Tensor]
    """(count,) float64 by parameter, 0 of those not chosen."""
    changes: dict[str, tuple[str, Tensor]]
    """What each target would change in its parameter's squares if it is sketched."""

    @classmethod
    def of(
        cls, terms: Tensor, targets: Sequence[Target], chosen: list[int], changes: Changes
    ) -> "Verification":
        """Backpropagate the chosen ones of (count,) terms one by one."""
        parameters = [t.parameter for t in targets]
        dtypes = {p.dtype for p in parameters}
        tolerance = max(_TOLERANCE.get(dtype, _LOW_PRECISION_TOLERANCE) for dtype in dtypes)
        if torch.is_autocast_enabled(terms.device.type):
            tolerance = _LOW_PRECISION_TOLERANCE
        found = cls(chosen, tolerance, {}, {})
        for i in chosen:
            gradients = torch.autograd.grad(
                terms[i], parameters, retain_graph=True, allow_unused=True
            )
            for target, gradient in zip(targets, gradients, strict=True):
                if gradient is None:
                    continue
                exact = found.exact.setdefault(target.name, _zeros(terms))
                exact[i] = float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
                for name, change in changes(target, gradient):
                    known = found.changes.setdefault(name, (target.name, _zeros(terms)))
                    known[1][i] = change
        return found

    def squares(self, sketched: Collection[str]) -> dict[str, Tensor]:
        """(count,) squared norms by parameter, as they are if these targets were sketched."""
        squares = {name: square.clone() for name, square in self.exact.items()}
        for name in self.changes.keys() & set(sketched):
            parameter, change = self.changes[name]
            squares[parameter] += change
        return squares

    def problem(self, measured: Tensor, real: Tensor) -> str | None:
        """What differs between (count,) squared norms, None if nothing does."""
        norms = [max(float(real[i]), 0.0) ** 0.5 for i in self.chosen]
        for i, norm in zip(self.chosen, norms, strict=True):
            found = max(float(measured[i]), 0.0) ** 0.5
            if abs(found - norm) > self.tolerance * max(norm, 1e-6 * max(norms)):
                return (
                    f"trajectory {i}: norm {found:.6g} measured, {norm:.6g} by a backward pass "
                    "of its own. Rows are charged to the wrong trajectory, the loss couples "
                    "trajectories, or terms.sum() is not the loss that was backpropagated"
                )
        return None


def choose(known: Sequence[int], count: int, seed: int) -> list[int]:
    """``count`` of the known trajectories, drawn with ``seed``; ascending."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(known), generator=generator)[:count].tolist()
    return sorted(known[at] for at in drawn)


def _zeros(terms: Tensor) -> Tensor:
    return torch.zeros(len(terms), dtype=torch.float64)
