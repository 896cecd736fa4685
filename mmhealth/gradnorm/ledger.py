"""`Ledger`: the account of one step. Squares per parameter and trajectory, and what was handed out.

Whatever touches one parameter is added before it is squared:

- one dense use: its summands are squared as they stream by (`Ledger.stream`);
- several dense uses of one part (a shared layer, a cell in a loop): each leaves a function that
  computes its summand of trajectory i; they are added and squared when the part ends (`later`);
- embeddings stay sparse, and a dense use beside them (a tied head) keeps the rows of the
  trajectory's own tokens: ``|H + E|^2 = |H|^2 + |E|^2 + 2 <H, E>`` (`mmhealth.gradnorm.rows`);
- a trajectory that spans several parts (micro-batches) has a buffer of the parameter's size.

Nothing here raises during ``backward``, which belongs to the user: problems are noted, and told
when a norm is read.
"""

import math
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmhealth.gradnorm.audit import Audit
from mmhealth.gradnorm.rows import RowSums
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.target import Handle, Target

Summand = Callable[[int], Tensor | None]
"""Gradient of trajectory i in one use, in the shape of the target; None where it has none."""

Scratch = dict[tuple[torch.dtype, torch.device], Tensor]

_DOT = 1 << 18
"""Elements in one float32 product: a longer one loses digits."""
_NORM = 1 << 14
"""The same of a norm, which torch adds up less carefully."""


@dataclass(slots=True)
class _Uses:
    """Uses of one target in one part."""

    outside: int = 0
    """Dense uses in a forward pass."""
    inside: int = 0
    """Dense uses recomputed in a backward pass (checkpointing)."""
    streamed: bool = False
    members: set[int] = field(default_factory=set)
    summands: list[Summand] = field(default_factory=list)
    rows: RowSums = field(default_factory=RowSums)


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


class Ledger:
    """One step's account for trajectories 0 .. count - 1."""

    def __init__(
        self,
        count: int,
        shared: Callable[[str], bool],
        spanning: Iterable[int],
        scratch: Scratch | None = None,
    ) -> None:
        self.count = count
        self.part = 0
        self.problems: list[str] = []
        self.audit = Audit()
        self._charges: list[_Charge] = []
        self._shared = shared
        self._slots = {i: slot for slot, i in enumerate(sorted(spanning))}
        self._buffers: dict[str, tuple[Target, Tensor]] = {}
        self._uses: dict[Target, _Uses] = {}
        self._scratch: Scratch = {} if scratch is None else scratch

    def problem(self, message: str) -> None:
        """Note why there will be no norms."""
        if message not in self.problems:
            self.problems.append(message)

    def opened(self, target: Target) -> None:
        """A dense use of the target was built into a graph."""
        uses = self._of(target)
        if torch._C._current_graph_task_id() != -1:
            uses.inside += 1
        else:
            uses.outside += 1

    def looked_up(self, target: Target, ids: Tensor, tokens: Tensor) -> None:
        """An embedding will read these rows: (tokens,) trajectories and indices."""
        self._of(target).rows.expect(ids, tokens)

    def alone(self, target: Target) -> bool:
        """Whether the target has no more than one use in this part, as far as known."""
        uses = self._of(target)
        return max(uses.outside, uses.inside) + uses.rows.lookups <= 1 and target.row is None

    def tied(self, target: Target) -> bool:
        """Whether an embedding reads rows of the target in this part."""
        return self._of(target).rows.lookups > 0

    def defers(self, target: Target) -> bool:
        """Whether summands of this use must wait for others; asked once by each backward."""
        uses = self._of(target)
        wait = self._shared(target.name) or uses.outside > 1 or uses.inside > 1
        if uses.streamed:
            self.problem(
                f"{target.name} was used again after its norms had been taken (a second backward "
                "pass over one graph, or reentrant checkpointing of a shared layer): name it in "
                "shared=..."
            )
        uses.streamed = not wait
        return wait

    def scratch(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory for what is used up at once, kept for the next time: fresh pages cost more than
        small products. Of no content that can be relied on.
        """
        key = like.dtype, like.device
        size = math.prod(shape)
        held = self._scratch.get(key)
        if held is None or len(held) < size:
            held = self._scratch[key] = like.new_empty(size)
        return held[:size].view(shape)

    def later(self, target: Target, summand: Summand, members: Iterable[int]) -> None:
        """Leave a use of the target until the part ends."""
        uses = self._of(target)
        uses.summands.append(summand)
        uses.members.update(members)

    def stream(self, handle: Handle, trajectory: int, gradient: Tensor) -> Tensor:
        """Take the whole gradient of a trajectory; returns its squared norm (a scalar to `add`)."""
        target = handle.target
        rows = self._of(target).rows
        if rows.lookups:
            rows.keep(trajectory, handle.back, gradient)
        if trajectory in self._slots:
            self._span(target, trajectory).add_(handle.back(gradient))
            return torch.zeros((), dtype=torch.float64, device=gradient.device)
        return squared(gradient)

    def norms(self, handle: Handle, live: Segments, gradients: Tensor, first: int = 0) -> Tensor:
        """The same for (n, ...) whole gradients of the trajectories from place ``first`` on; (n,)
        norms to `add_norms`.
        """
        if self._slots:
            members = live.members[first : first + len(gradients)]
            each = [self.stream(handle, i, g) for i, g in zip(members, gradients, strict=True)]
            return torch.stack(each).sqrt()
        flat = gradients.flatten(1) if gradients.ndim > 1 else gradients[:, None]
        wide = torch.float64 if flat.shape[1] > _NORM else None
        norms: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=wide)
        return norms

    def add_norms(self, target: Target, live: Segments, norms: Tensor) -> None:
        """Add (members,) norms."""
        charge = _Charge(target, live.index, norms, rooted=True, rising=live.rising)
        self._charges.append(charge)

    def add(self, target: Target, index: Tensor, squares: Tensor) -> None:
        """Add (members,) squared norms of the trajectories ``index``, each at most once."""
        if len(index):
            self._charges.append(_Charge(target, index, squares))

    def squares(self, without: Container[str]) -> dict[str, Tensor]:
        """(count,) float64 squared norms by parameter."""
        totals: dict[str, Tensor] = {}
        for charges in _alike(c for c in self._charges if c.target.parent not in without):
            first = charges[0]
            rows = torch.stack([charge.values for charge in charges]).double()
            rows = rows.square_() if first.rooted else rows
            if not first.rising or len(first.index) != self.count:
                whole = rows.new_zeros(len(rows), self.count)
                rows = whole.index_add_(1, first.index.to(rows.device), rows)
            for charge, row in zip(charges, rows.unbind(0), strict=True):
                name = charge.target.parent
                known = totals.get(name)
                totals[name] = row if known is None else known + row.to(known.device)
        return totals

    def take_all(self, handle: Handle, live: Segments, gradients: Tensor) -> None:
        """Take (members, ...) whole gradients, or keep them where they must wait."""
        if self.defers(handle.target):
            at = {i: row for row, i in enumerate(live.members)}
            self.later(
                handle.target,
                lambda i: handle.back(gradients[at[i]]) if i in at else None,
                live.members,
            )
            return
        if len(gradients):
            self.add_norms(handle.target, live, self.norms(handle, live, gradients))

    def take_rows(self, target: Target, ids: Tensor, tokens: Tensor, gradients: Tensor) -> None:
        """Take (tokens, d) gradients of table rows that an embedding read."""
        self._of(target).rows.take(ids, tokens, gradients)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside is not accounted for: a backward pass beside the user's."""
        kept = self._charges, self.audit, self.problems, self._uses, self._buffers
        self._charges, self.audit, self.problems = [], Audit(), []
        self._uses, self._buffers = {}, {}
        try:
            yield
        finally:
            self._charges, self.audit, self.problems, self._uses, self._buffers = kept

    def end_part(self) -> None:
        """Square what waited; the next uses belong to the next part."""
        for target, uses in self._uses.items():
            if uses.rows.taken and uses.summands:
                uses.summands.append(uses.rows.summand(target.parameter))
                uses.members.update(uses.rows.members())
            elif uses.rows.taken:
                self._end_rows(target, uses)
            for i in sorted(uses.members):
                present = [g for g in (summand(i) for summand in uses.summands) if g is not None]
                gradient = present[0] if len(present) == 1 else torch.stack(present).sum(0)
                if i in self._slots:
                    self._span(target, i).add_(gradient)
                else:
                    square = squared(gradient)[None]
                    self.add(target, torch.tensor([i], device=square.device), square)
        self._uses.clear()
        self.part += 1

    def close(self) -> None:
        """Square the trajectories that span parts."""
        self.end_part()
        for target, buffer in self._buffers.values():
            squares = torch.stack([squared(part) for part in buffer])
            self.add(target, torch.tensor(list(self._slots), device=squares.device), squares)
        self._buffers.clear()

    def _end_rows(self, target: Target, uses: _Uses) -> None:
        index, sparse, problem = uses.rows.squares(uses.streamed, self._slots)
        if problem:
            self.problem(f"{target.name}: {problem}")
            return
        self.add(target, index, sparse)
        for i in self._slots.keys() & set(uses.rows.members()):
            uses.rows.add_into(self._span(target, i), i)

    def _span(self, target: Target, trajectory: int) -> Tensor:
        if target.name not in self._buffers:
            shape = (len(self._slots), *target.shape)
            dtype = torch.promote_types(target.parameter.dtype, torch.float32)
            buffer = torch.zeros(shape, dtype=dtype, device=target.parameter.device)
            self._buffers[target.name] = target, buffer
        return self._buffers[target.name][1][self._slots[trajectory]]

    def _of(self, target: Target) -> _Uses:
        uses = self._uses.get(target)
        if uses is None:
            uses = self._uses[target] = _Uses()
        return uses


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
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(part, part) for part in torch.split(flat, _DOT)]).double().sum()
