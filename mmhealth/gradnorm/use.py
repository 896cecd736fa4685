"""`Use`: one covered use of a parameter, and how its backward pass charges trajectories."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mmhealth.gradnorm.ledger import Ledger
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.target import Handle


@dataclass(eq=False, slots=True)
class Use:
    """One use of a parameter in a part of a step."""

    ledger: Ledger
    handle: Handle
    segments: Segments
    part: int

    @classmethod
    def opened(cls, ledger: Ledger, handle: Handle, segments: Segments) -> "Use":
        """A dense use that is built into a graph now."""
        ledger.opened(handle.target)
        return cls(ledger, handle, segments, ledger.part)

    def live(self, gradient: Tensor) -> Segments:
        """Segments to sum (rows, ...) output gradients over; notes what is wrong with them."""
        name = self.handle.target.name
        if self.part != self.ledger.part:
            self.ledger.problem(f"{name}: a backward pass ran after its part of the step had ended")
        live = self.segments.live(gradient)
        if live is None:
            self.ledger.problem(f"padding that belongs to no trajectory has a gradient at {name}")
        return live or self.segments

    def sums(self, gradient: Tensor, back: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Charge (rows, ...) gradients of copies of the tensor, one copy a row; returns their sum.

        ``back`` brings (members, ...) sums to the tensor's own shape.
        """
        live = self.live(gradient)
        totals = live.sums(gradient)
        if back is not None:
            totals = back(totals)
        self.charge(live, totals)
        return totals.sum(0)

    def charge(self, live: Segments, gradients: Tensor) -> None:
        """Charge trajectories with (members, ...) whole gradients of the tensor."""
        self.ledger.take_all(self.handle, live, gradients)

    def hand_out(self, gradient: Tensor) -> Tensor:
        """Note that this gradient of the tensor goes to autograd, in the parameter's dtype."""
        target = self.handle.target
        if self.handle.whole:
            gradient = gradient.to(target.parameter.dtype)
        self.ledger.audit.hand_out(self.handle, gradient, only=self.ledger.alone(target))
        return gradient
