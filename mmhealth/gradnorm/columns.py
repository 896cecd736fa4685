"""`Columns`: the account of sketched gradients of one step.

Sketches of one parameter are taken with the same vectors within a step, so that they add up as the
gradients do: the uses of a shared weight, a tied embedding's rows, the parts of a trajectory. What
waits for more waits as a sketch, (k, smaller side) for each trajectory in place of a whole
gradient, and no product is taken again.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.sketch import (
    Sketch,
    Turn,
    sketched,
    sketched_products,
    sketched_rows,
    squared_columns,
    turn_of,
)
from mmhealth.gradnorm.target import Handle, Target

Sides = tuple[Tensor, Tensor]
_Held = tuple[list[int], Tensor]
"""Trajectories and their (n, k, smaller side) sketches."""


class Columns:
    """Squared norms by column of the parameters that are sketched, trajectories 0 .. count - 1."""

    def __init__(
        self, mode: Sketch, step: int, count: int, slots: Mapping[int, int], *, memory_limit: int
    ) -> None:
        """``slots`` numbers the trajectories that span parts."""
        self.squares: dict[str, Tensor] = {}
        """(count, k) float64 by parameter, once the account is closed."""
        self.sketched: set[str] = set()
        """Names of the targets that were sketched."""
        self.problem: str | None = None
        self._mode, self._step, self._count, self._slots = mode, step, count, slots
        self._limit = memory_limit
        self._signs: dict[Target, Tensor] = {}
        self._held: dict[Target, _Held] = {}
        self._spans: dict[Target, Tensor] = {}
        self._taken: list[tuple[str, Tensor, Tensor]] = []

    def anew(self) -> "Columns":
        """An empty account of the same step."""
        given = self._mode, self._step, self._count, self._slots
        return Columns(*given, memory_limit=self._limit)

    def pays(self, target: Target) -> bool:
        """Whether gradients of linear maps, and any that wait for other parts, are sketched."""
        return self._mode.pays(target.shape)

    def holds(self, target: Target) -> bool:
        """Whether sketches of uses in this part wait for others."""
        return target in self._held

    def turn(self, handle: Handle, rows: int, columns: int) -> Turn | None:
        """How gradients (rows, columns) of a tensor become those of its target; None: no sketch."""
        if not self.pays(handle.target):
            return None
        if handle.whole:
            return Turn()
        return turn_of(handle.back, (rows, columns), handle.target.shape)

    def take(self, handle: Handle, live: Segments, sides: Sides, turn: Turn, *, wait: bool) -> None:
        """Take the gradients ``left^T right`` over each trajectory's rows, of `Segments.gathered`
        sides (left, right); ``wait``: other uses will be added.
        """
        target = handle.target
        left, right = sides[::-1] if turn.transposed else sides
        sketches = sketched_products(left, right, live, self._vectors(target, left.device))
        if turn.sign != 1.0:
            sketches = turn.sign * sketches
        if wait or self._slots:
            self._add(target, live.members, sketches, wait=wait)
        else:
            self._square(target, live.index, sketches)

    def take_whole(self, target: Target, trajectory: int, gradient: Tensor) -> None:
        """Add the whole gradient of a trajectory."""
        signs = self._vectors(target, gradient.device)
        self._add(target, [trajectory], sketched(gradient[None], signs), wait=True)

    def take_rows(self, target: Target, owner: Tensor, tokens: Tensor, rows: Tensor) -> None:
        """Add (entries, d) gradients of the table rows ``tokens``, of trajectories ``owner``."""
        signs = self._vectors(target, rows.device)
        members, sketches = sketched_rows(owner, tokens, rows, target.shape, signs)
        self._add(target, members, sketches, wait=True)

    def changes(self, target: Target, gradient: Tensor) -> Iterator[tuple[str, float]]:
        """What a sketch in place of this gradient changes in its squared norm, by name of the
        target: the parameter, or each of its entries along axis 0.
        """
        entries = [(target, gradient)]
        if gradient.ndim == 3:
            name, parameter = target.name, target.parameter
            rows = [Target(f"{name}[{k}]", parameter, name, k) for k in range(len(gradient))]
            entries = list(zip(rows, gradient, strict=True))
        for one, part in entries:
            if self.pays(one):
                columns = squared_columns(sketched(part[None], self._drawn(one, part.device)))
                exact = float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2
                yield one.name, float(columns.mean()) - exact

    def end_part(self) -> None:
        """Square what waited for uses of this part."""
        for target, (members, sketches) in self._held.items():
            self._settle(target, members, sketches)
        self._held.clear()

    def close(self) -> None:
        """Square what waited for other parts, and add up by parameter."""
        for target, sketches in self._spans.items():
            self._square(target, torch.tensor(list(self._slots)), sketches)
        self._spans.clear()
        for name, index, squares in self._taken:
            total = self.squares.get(name)
            if total is None:
                total = squares.new_zeros(self._count, self._mode.k)
                self.squares[name] = total
            total.index_add_(0, index.to(total.device), squares.to(total.device))
        self._taken.clear()

    def _add(self, target: Target, members: list[int], sketches: Tensor, *, wait: bool) -> None:
        if not members:
            return
        if not wait:
            self._settle(target, members, sketches)
            return
        held = self._held.get(target)
        self._held[target] = (
            (members, sketches) if held is None else _merged(held, members, sketches)
        )
        size = sum(s.numel() * s.element_size() for _, s in self._held.values())
        if size > self._limit:
            self._held[target] = [], sketches[:0]
            self.problem = (
                f"sketches of parameters used more than once would take {size:,} bytes, "
                f"memory_limit is {self._limit:,}: raise it, or lower k"
            )

    def _settle(self, target: Target, members: list[int], sketches: Tensor) -> None:
        spans = [(at, self._slots[i]) for at, i in enumerate(members) if i in self._slots]
        if spans:
            at, slot = (
                torch.tensor(one, device=sketches.device) for one in zip(*spans, strict=True)
            )
            buffer = self._spans.get(target)
            if buffer is None:
                buffer = sketches.new_zeros(len(self._slots), *sketches.shape[1:])
                self._spans[target] = buffer
            buffer.index_add_(0, slot, sketches.index_select(0, at))
            keep = [at for at, i in enumerate(members) if i not in self._slots]
            members, sketches = [members[at] for at in keep], sketches[keep]
        self._square(target, torch.tensor(members, dtype=torch.long), sketches)

    def _square(self, target: Target, index: Tensor, sketches: Tensor) -> None:
        self._taken.append((target.parent, index, squared_columns(sketches)))

    def _vectors(self, target: Target, device: torch.device) -> Tensor:
        signs = self._signs.get(target)
        if signs is None:
            signs = self._signs[target] = self._drawn(target, device)
            self.sketched.add(target.name)
        return signs

    def _drawn(self, target: Target, device: torch.device) -> Tensor:
        return self._mode.signs(self._step, target.name, target.shape).to(device)


def _merged(held: _Held, members: list[int], sketches: Tensor) -> _Held:
    """Both, added by trajectory."""
    at = {i: slot for slot, i in enumerate(held[0])}
    further = [i for i in members if i not in at]
    known, total = held
    if further:
        at |= {i: slot for slot, i in enumerate(further, start=len(known))}
        total = torch.cat([total, total.new_zeros(len(further), *total.shape[1:])])
    slots = torch.tensor([at[i] for i in members], device=total.device)
    return [*known, *further], total.index_add_(0, slots, sketches.to(total.dtype))
