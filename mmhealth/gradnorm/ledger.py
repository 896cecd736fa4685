"""`Ledger`: the account of one step. Squares per parameter and trajectory, and what was handed out.

Whatever touches one parameter is added before it is squared:

- one dense use: its summands are squared as they stream by (`Ledger.stream`);
- several dense uses of one part (a shared layer, a cell in a loop): each leaves a function that
  computes its summand of trajectory i; they are added and squared when the part ends (`later`);
- embeddings stay sparse, and a dense use beside them (a tied head) keeps the rows of the
  trajectory's own tokens: ``|H + E|^2 = |H|^2 + |E|^2 + 2 <H, E>`` (`mmhealth.gradnorm.rows`);
- a trajectory that spans several parts (micro-batches) has a buffer of the parameter's size;
- sketched gradients of linear maps add up as sketches (`mmhealth.gradnorm.columns`), and whatever
  else is charged to a parameter while they wait is projected and joins them.

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
from mmhealth.gradnorm.columns import Columns
from mmhealth.gradnorm.dots import Dots
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

    def gradients(self) -> Iterator[tuple[int, Tensor]]:
        """Whole gradients of the trajectories whose summands waited, computed as they come."""
        for i in sorted(self.members):
            present = [g for g in (summand(i) for summand in self.summands) if g is not None]
            yield i, present[0] if len(present) == 1 else torch.stack(present).sum(0)


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
        *,
        bitwise: bool = False,
    ) -> None:
        self.count = count
        self.bitwise = bitwise
        """Whether autograd gets gradients as it would compute them itself, bit by bit."""
        self.part = 0
        self.problems: list[str] = []
        self.audit = Audit()
        self.columns: Columns | None = None
        """The account of sketches; None where everything is exact."""
        self.dots: Dots | None = None
        """The account of products with the whole gradient; None where they are not wanted."""
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
        wait = wait or (self.multiplies and self.tied(target))
        if uses.streamed:
            self.problem(
                f"{target.name} was used again after its norms had been taken (a second backward "
                "pass over one graph, or reentrant checkpointing of a shared layer): name it in "
                "shared=..."
            )
        uses.streamed = not wait
        return wait

    @property
    def multiplies(self) -> bool:
        """Whether products with the whole gradient are taken as each target is known."""
        return self.dots is not None and not self._slots

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

    def sketches(self, handle: Handle, live: Segments, left: Tensor, right: Tensor) -> bool:
        """Take the gradients ``left^T right`` over each trajectory's rows as sketches, if they are
        to be; whether they were. left and right are as `Segments.gathered` gives them.
        """
        if self.columns is None:
            return False
        turn = self.columns.turn(handle, left.shape[1], right.shape[1])
        if turn is None:
            return False
        wait = self.defers(handle.target) or self.tied(handle.target)
        self.columns.take(handle, live, (left, right), turn, wait=wait)
        return True

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
            self._keep(target, trajectory, handle.back(gradient))
            return torch.zeros((), dtype=torch.float64, device=gradient.device)
        return squared(gradient)

    def norms(self, handle: Handle, live: Segments, gradients: Tensor, first: int = 0) -> Tensor:
        """The same for (n, ...) whole gradients of the trajectories from place ``first`` on; (n,)
        norms to `add_norms`.
        """
        if self._slots:
            members = live.members[first : first + len(gradients)]
            if (
                self.columns is None
                and not self.tied(handle.target)
                and self._keep_all(handle, members, gradients)
            ):
                return gradients.new_zeros(len(members))
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
                _put(totals, charge.target.parent, row)
        for name, columns in self.columns.squares.items() if self.columns else ():
            if name not in without:
                _put(totals, name, columns.mean(1))
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
            if self.dots is not None and self.multiplies:
                self.dots.take(handle.target, live.index, gradients)

    def take_rows(self, target: Target, ids: Tensor, tokens: Tensor, gradients: Tensor) -> None:
        """Take (tokens, d) gradients of table rows that an embedding read."""
        self._of(target).rows.take(ids, tokens, gradients)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside is not accounted for: a backward pass beside the user's."""
        kept = self._charges, self.audit, self.problems, self._uses, self._buffers
        self._charges, self.audit, self.problems = [], Audit(), []
        self._uses, self._buffers = {}, {}
        accounts = self.columns, self.dots
        self.columns = self.columns and self.columns.anew()
        self.dots = self.dots and self.dots.anew()
        try:
            yield
        finally:
            self.columns, self.dots = accounts
            self._charges, self.audit, self.problems, self._uses, self._buffers = kept

    def end_part(self) -> None:
        """Square what waited; the next uses belong to the next part."""
        for target, uses in self._uses.items():
            if uses.rows.taken and uses.summands:
                uses.summands.append(uses.rows.summand(target.parameter))
                uses.members.update(uses.rows.members())
            elif uses.rows.taken:
                self._end_rows(target, uses)
            whole: Tensor | None = None
            for i, gradient in uses.gradients():
                if self.multiplies:
                    whole = gradient.clone() if whole is None else whole.add_(gradient)
                if i in self._slots or self._projects(target):
                    self._keep(target, i, gradient)
                else:
                    square = squared(gradient)[None]
                    self.add(target, torch.tensor([i], device=square.device), square)
            if self.dots is not None and whole is not None:
                for i, gradient in uses.gradients():
                    dot = (gradient * whole).sum(dtype=torch.float64)[None]
                    self.dots.add(target, torch.tensor([i]), dot)
        self._uses.clear()
        if self.columns is not None:
            self.columns.end_part()
        self.part += 1

    def close(self) -> None:
        """Square the trajectories that span parts."""
        self.end_part()
        for target, buffer in self._buffers.values():
            flat = buffer.reshape(len(buffer), -1)
            if flat.shape[1] > _NORM:
                squares = torch.stack([squared(part) for part in flat])
            else:
                squares = torch.linalg.vector_norm(flat, dim=1).double().square()
            index = torch.tensor(list(self._slots), device=squares.device)
            self.add(target, index, squares)
            if self.dots is not None:
                self.dots.take(target, index, buffer)
        self._buffers.clear()
        if self.columns is not None:
            self.columns.close()
            if self.columns.problem:
                self.problem(self.columns.problem)

    def _end_rows(self, target: Target, uses: _Uses) -> None:
        if self.columns is not None and self.columns.holds(target):
            self.columns.take_rows(target, *uses.rows.entries())
            return
        index, sparse, problem = uses.rows.squares(uses.streamed, self._slots)
        if problem:
            self.problem(f"{target.name}: {problem}")
            return
        self.add(target, index, sparse)
        if self.dots is not None and self.multiplies:
            self.dots.take_rows(target, *uses.rows.entries())
        if self.columns is not None and self.columns.pays(target) and self._slots:
            owner, tokens, rows = uses.rows.entries()
            spans = torch.isin(owner, torch.tensor(list(self._slots), device=owner.device))
            self.columns.take_rows(target, owner[spans], tokens[spans], rows[spans])
            return
        for i in self._slots.keys() & set(uses.rows.members()):
            uses.rows.add_into(self._span(target, i), i)

    def _projects(self, target: Target) -> bool:
        return self.columns is not None and self.columns.holds(target)

    def _keep(self, target: Target, trajectory: int, gradient: Tensor) -> None:
        """Add a gradient to others of the trajectory that are known later, or wait as sketches."""
        if self.columns is not None and self.columns.pays(target):
            self.columns.take_whole(target, trajectory, gradient)
        else:
            self._span(target, trajectory).add_(gradient)

    def _keep_all(self, handle: Handle, members: list[int], gradients: Tensor) -> bool:
        """Add (members, ...) gradients to others at once, if all of them wait for others."""
        slots = [self._slots.get(i, -1) for i in members]
        if -1 in slots:
            return False
        parts = torch.stack([handle.back(g) for g in gradients]) if handle.turns else gradients
        buffer = self._buffer(handle.target)
        buffer.index_add_(0, torch.tensor(slots, device=buffer.device), parts.to(buffer.dtype))
        return True

    def _span(self, target: Target, trajectory: int) -> Tensor:
        return self._buffer(target)[self._slots[trajectory]]

    def _buffer(self, target: Target) -> Tensor:
        """(slots, ...) gradients that wait for other parts."""
        if target.name not in self._buffers:
            shape = (len(self._slots), *target.shape)
            dtype = torch.promote_types(target.parameter.dtype, torch.float32)
            buffer = torch.zeros(shape, dtype=dtype, device=target.parameter.device)
            self._buffers[target.name] = target, buffer
        return self._buffers[target.name][1]

    def _of(self, target: Target) -> _Uses:
        uses = self._uses.get(target)
        if uses is None:
            uses = self._uses[target] = _Uses()
        return uses


def _put(totals: dict[str, Tensor], name: str, row: Tensor) -> None:
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
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(part, part) for part in torch.split(flat, _DOT)]).double().sum()
