"""`Audit`: is what trajectories were charged with all that was backpropagated into a parameter?

A hook on each parameter sees the gradient that reaches it, tied uses added up. Where it is the
very tensor that a covered use handed out, nothing else can have touched the parameter. Elsewhere
(several uses, a cast in between) both sides are compared by one number each, ``u^T G v`` with fixed
u and v without structure: linear, so sums can be compared, and of the cost of reading G once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmhealth.gradnorm.target import Handle, Target

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_LOW_PRECISION_TOLERANCE = 0.05
"""Of dtypes with fewer bits than float32."""


@dataclass(slots=True)
class _Account:
    handed: float | Tensor = 0.0
    arrived: float | Tensor = 0.0
    size: float | Tensor = 0.0
    """Sum of the norms handed out and arrived: the scale of a difference."""
    direct: tuple[int, int] | None = None
    """Address and version of a gradient handed out that nothing should change."""
    reached: bool = False
    charged: bool = False
    low: bool = False


class Audit:
    """Both sides of every parameter, by name."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def hand_out(self, handle: Handle, gradient: Tensor, *, only: bool) -> None:
        """A covered use returns this gradient to autograd. ``only``: it expects no other use."""
        account = self._of(handle.target.parent)
        account.charged = True
        account.low |= gradient.dtype in (torch.float16, torch.bfloat16)
        if only and handle.whole:
            account.direct = gradient.data_ptr(), gradient._version
            return
        gradient = handle.back(gradient)
        account.handed = account.handed + fingerprint(gradient, handle.target)
        account.size = account.size + torch.linalg.vector_norm(_wide(gradient))

    def arrive(self, target: Target, gradient: Tensor) -> None:
        """This gradient reaches the parameter, in one backward pass."""
        account = self._of(target.parent)
        account.reached = True
        if account.direct is not None:
            same = account.direct == (gradient.data_ptr(), gradient._version)
            account.direct = None
            if same:
                return
        account.arrived = account.arrived + fingerprint(gradient, target)
        account.size = account.size + torch.linalg.vector_norm(_wide(gradient))

    def charged(self, name: str) -> bool:
        """Whether a covered use of the parameter handed out a gradient."""
        return name in self._accounts and self._accounts[name].charged

    def reached(self, name: str) -> bool:
        """Whether any gradient arrived at the parameter."""
        return name in self._accounts and self._accounts[name].reached

    def gap(self, target: Target) -> str | None:
        """Why the two sides of a parameter differ, None where they agree."""
        account = self._accounts.get(target.parent)
        if account is None or not account.reached:
            return None
        if not account.charged:
            return "a gradient reached it from no covered use"
        tolerance = _TOLERANCE.get(target.parameter.dtype, _LOW_PRECISION_TOLERANCE)
        if account.low:
            tolerance = _LOW_PRECISION_TOLERANCE
        difference = abs(float(account.handed) - float(account.arrived))
        if difference > tolerance * float(account.size):
            return (
                "the trajectories' gradients do not add up to the gradient backpropagated: it is "
                "also used where it cannot be followed (a custom autograd function, a compiled "
                "region), or one of your hooks changes its gradient"
            )
        return None

    def _of(self, name: str) -> _Account:
        return self._accounts.setdefault(name, _Account())


def fingerprint(gradient: Tensor, target: Target) -> Tensor:
    """Scalar ``u^T G v`` of a gradient in the shape of the target; linear in it.

    Of a row of a parameter it is what the parameter's gradient has that is 0 in all other rows.
    """
    gradient = _wide(gradient.detach())
    rows = 1 if target.row is not None or not gradient.ndim else gradient.shape[0]
    flat = gradient.reshape(rows, -1)
    first = _direction(flat.shape[1], flat.device, 2.0)
    with torch.autocast(flat.device.type, enabled=False):  # arrivals may run under the user's
        products = (flat @ first.to(flat.dtype)).double()
    if target.row is not None:
        return products[0] * _entry(target.row)
    return products @ _direction(rows, flat.device, 1.0)


def _wide(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.dtype in (torch.float16, torch.bfloat16) else gradient


def _direction(count: int, device: torch.device, offset: float) -> Tensor:
    return torch.cos(torch.arange(count, dtype=torch.float64, device=device).square() + offset)


def _entry(row: int) -> Tensor:
    return torch.cos(torch.tensor(float(row), dtype=torch.float64).square() + 1.0)
