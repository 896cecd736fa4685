"""What is measured: a prepared method, which trains a workload's model once a call."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gradnorms.workload import Workload


class UnableError(Exception):
    """A method that cannot run a workload, and why."""


@dataclass
class Arm:
    """A method on a workload, with a copy of the model to itself."""

    run: Callable[[], Tensor | None]
    """Forward, backward and (count,) norms; None: plain training. Leaves gradients in ``.grad``."""
    reset: Callable[[], None]
    """Drops what the last call left; not timed."""


Prepare = Callable[[Workload, nn.Module], Arm]
"""From a workload and a copy of its model. Raises `UnableError`."""


def clear(module: nn.Module) -> Callable[[], None]:
    """Sets gradients to None."""
    return lambda: module.zero_grad(set_to_none=True)


def need_rows(workload: Workload) -> None:
    """Raise `UnableError` for packed rows."""
    if workload.packed:
        raise UnableError("needs one trajectory a row")


def in_order(workload: Workload, norms: list[Tensor]) -> Tensor:
    """(count,) from those of each part."""
    if len(norms) == 1:
        return norms[0]
    whole = norms[0].new_zeros(workload.count)
    for part, found in zip(workload.parts, norms, strict=True):
        whole[part.members] = found
    return whole
