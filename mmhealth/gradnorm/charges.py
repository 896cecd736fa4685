"""`Charges`: squared norms by parameter and trajectory, added up when a step closes."""

from collections.abc import Container, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.target import Target

_DOT = 1 << 18
"""Elements in one float32 product: a longer one loses digits."""
_NORM = 1 << 14
"""The same of a norm, which torch adds up less carefully."""
_LEAST, _MOST = 1e-15, 1e15
"""Norms between which float32 squares neither vanish nor overflow; others are taken in float64 on
the CPU (elsewhere looking would wait for the device)."""


@dataclass(slots=True)
class _Charge:
    """What trajectories are charged with for one use of a target."""

    target: Target
    index: Tensor
    values: Tensor
    """(members,) squared norms, or norms if ``rooted``."""
    rooted: bool = False
    rising: bool = False
    """Whether ``index`` is known to rise."""


class Charges:
    """The charges of one step to trajectories 0 .. count - 1."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._charges: list[_Charge] = []

    def anew(self) -> "Charges":
        """No charges, to as many trajectories."""
        return Charges(self._count)

    def add(self, target: Target, index: Tensor, squares: Tensor) -> None:
        """Add (members,) squared norms of the trajectories ``index``, each at most once."""
        if len(index):
            self._charges.append(_Charge(target, index, squares))

    def add_norms(self, target: Target, live: Segments, norms: Tensor) -> None:
        """Add (members,) norms."""
        charge = _Charge(target, live.index, norms, rooted=True, rising=live.rising)
        self._charges.append(charge)

    def totals(self, without: Container[str]) -> dict[str, Tensor]:
        """(count,) float64 squared norms by parameter."""
        totals: dict[str, Tensor] = {}
        for charges in _alike(c for c in self._charges if c.target.parent not in without):
            first = charges[0]
            rows = torch.stack([charge.values for charge in charges]).double()
            rows = rows.square_() if first.rooted else rows
            if not first.rising or len(first.index) != self._count:
                whole = rows.new_zeros(len(rows), self._count)
                rows = whole.index_add_(1, first.index.to(rows.device), rows)
            for charge, row in zip(charges, rows.unbind(0), strict=True):
                put(totals, charge.target.parent, row)
        return totals


def put(totals: dict[str, Tensor], name: str, row: Tensor) -> None:
    """Add a row to the total of its name."""
    known = totals.get(name)
    totals[name] = row if known is None else known + row.to(known.device)


def _alike(charges: Iterable[_Charge]) -> Iterable[list[_Charge]]:
    """Charges of the same trajectories in the same form, to be added up together."""
    groups: dict[tuple[int, torch.device, torch.dtype, bool], list[_Charge]] = {}
    for charge in charges:
        values = charge.values
        key = id(charge.index), values.device, values.dtype, charge.rooted
        groups.setdefault(key, []).append(charge)
    return groups.values()


def squared(gradient: Tensor) -> Tensor:
    """Squared Frobenius norm, a scalar, of products no longer than float32 can bear."""
    flat = gradient.reshape(-1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    if len(flat) <= _DOT:
        square = torch.dot(flat, flat)
    else:
        parts = torch.split(flat, _DOT)
        square = torch.stack([torch.dot(part, part) for part in parts]).double().sum()
    if flat.device.type == "cpu" and not _LEAST**2 < float(square) < _MOST**2:
        square = torch.linalg.vector_norm(flat, dtype=torch.float64).square()
    return square


def each_norm(gradients: Tensor) -> Tensor:
    """(n,) Frobenius norms of (n, ...) gradients."""
    flat = gradients.flatten(1) if gradients.ndim > 1 else gradients[:, None]
    wide = torch.float64 if flat.shape[1] > _NORM else None
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=wide)
    if wide is None and len(norms) and flat.device.type == "cpu":
        least, most = norms.aminmax()
        if not (float(least) > _LEAST and float(most) < _MOST):
            norms = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    return norms
