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

import torch
from torch import Tensor

from mmhealth.gradnorm.audit import Audit
from mmhealth.gradnorm.charges import Charges, each_norm, put, squared
from mmhealth.gradnorm.columns import Columns
from mmhealth.gradnorm.dots import Dots
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.spans import Spans
from mmhealth.gradnorm.target import Handle, Target
from mmhealth.gradnorm.uses import Summand, Uses

Scratch = dict[tuple[torch.dtype, torch.device], Tensor]
"""Memory to use again, by dtype and device."""


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
        self._charges = Charges(count)
        self._shared = shared
        self._spans = Spans(spanning)
        self._uses: dict[Target, Uses] = {}
        self._kinds: dict[str, set[bool]] = {}
        self._scratch: Scratch = {} if scratch is None else scratch

    def problem(self, message: str) -> None:
        """Note why there will be no norms."""
        if message not in self.problems:
            self.problems.append(message)

    def opened(self, target: Target) -> None:
        """A dense use of the target was built into a graph."""
        self._note_kind(target)
        uses = self._of(target)
        if torch._C._current_graph_task_id() != -1:
            uses.inside += 1
        else:
            uses.outside += 1

    def looked_up(self, target: Target, ids: Tensor, tokens: Tensor) -> None:
        """An embedding will read these rows: (tokens,) trajectories and indices."""
        self._note_kind(target)
        self._of(target).rows.expect(ids, tokens)

    def _note_kind(self, target: Target) -> None:
        kinds = self._kinds.setdefault(target.parent, set())
        kinds.add(target.row is None)
        if len(kinds) > 1:
            self.problem(
                f"{target.parent} is used as a whole and by single entries (w[k]) in one step: "
                "that has no rule"
            )

    def alone(self, target: Target) -> bool:
        """Whether the target has no more than one use in this part, as far as known."""
        uses = self._of(target)
        return max(uses.outside, uses.inside) + uses.rows.lookups <= 1 and target.row is None

    def tied(self, target: Target) -> bool:
        """Whether an embedding reads rows of the target in this part."""
        return self._of(target).rows.lookups > 0

    def keeps_nothing(self, target: Target) -> bool:
        """Whether norms of the target's gradients are all that is wanted of them."""
        return not self._spans and not self.tied(target)

    @property
    def only_norms(self) -> bool:
        """Whether a trajectory's gradient is needed for nothing but its norm and `own_rows`."""
        return not self._spans and self.columns is None and self.dots is None

    def own_rows(self, target: Target, trajectory: int) -> Tensor | None:
        """Rows of the target, rising, that an embedding reads for the trajectory; None if none."""
        return self._of(target).rows.own(trajectory)

    def keep_rows(self, target: Target, trajectory: int, rows: Tensor) -> None:
        """In place of `stream`, where the norm is known: the gradient at `own_rows`."""
        self._of(target).rows.keep(trajectory, rows)

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
        return self.dots is not None and not self._spans

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
        mine = rows.own(trajectory)
        if mine is not None:
            rows.keep(trajectory, handle.back(gradient).index_select(0, mine))
        if trajectory in self._spans:
            self._keep(target, trajectory, handle.back(gradient))
            return torch.zeros((), dtype=torch.float64, device=gradient.device)
        return squared(gradient)

    def norms(self, handle: Handle, live: Segments, gradients: Tensor, first: int = 0) -> Tensor:
        """The same for (n, ...) whole gradients of the trajectories from place ``first`` on; (n,)
        norms to `add_norms`.
        """
        if self._spans:
            members = live.members[first : first + len(gradients)]
            alike = self.columns is None and not self.tied(handle.target)
            if alike and self._spans.add_all(handle, members, gradients):
                return gradients.new_zeros(len(members))
            each = [self.stream(handle, i, g) for i, g in zip(members, gradients, strict=True)]
            return torch.stack(each).sqrt()
        return each_norm(gradients)

    def add_norms(self, target: Target, live: Segments, norms: Tensor) -> None:
        """Charge (members,) norms."""
        self._charges.add_norms(target, live, norms)

    def add(self, target: Target, index: Tensor, squares: Tensor) -> None:
        """Charge (members,) squared norms to the trajectories ``index``, each at most once."""
        self._charges.add(target, index, squares)

    def squares(self, without: Container[str]) -> dict[str, Tensor]:
        """(count,) float64 squared norms by parameter."""
        totals = self._charges.totals(without)
        for name, columns in self.columns.squares.items() if self.columns else ():
            if name not in without:
                put(totals, name, columns.mean(1))
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
            gradients = gradients.to(torch.promote_types(gradients.dtype, torch.float32))
            self.add_norms(handle.target, live, self.norms(handle, live, gradients))
            if self.dots is not None and self.multiplies:
                self.dots.take(handle.target, live.index, gradients)

    def take_rows(self, target: Target, ids: Tensor, tokens: Tensor, gradients: Tensor) -> None:
        """Take (tokens, d) gradients of table rows that an embedding read."""
        self._of(target).rows.take(ids, tokens, gradients)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside is not accounted for: a backward pass beside the user's."""
        kept = self._charges, self.audit, self.problems, self._uses, self._spans
        self._charges, self.audit, self.problems = self._charges.anew(), Audit(), []
        self._uses, self._spans = {}, self._spans.anew()
        accounts = self.columns, self.dots
        self.columns = self.columns and self.columns.anew()
        self.dots = self.dots and self.dots.anew()
        try:
            yield
        finally:
            self.columns, self.dots = accounts
            self._charges, self.audit, self.problems, self._uses, self._spans = kept

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
                if i in self._spans or self._projects(target):
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
        for target, index, gradients in self._spans.emptied():
            self.add(target, index, each_norm(gradients).double().square())
            if self.dots is not None:
                self.dots.take(target, index, gradients)
        if self.columns is not None:
            self.columns.close()
            if self.columns.problem:
                self.problem(self.columns.problem)

    def _end_rows(self, target: Target, uses: Uses) -> None:
        if self.columns is not None and self.columns.holds(target):
            self.columns.take_rows(target, *uses.rows.entries())
            return
        index, sparse, problem = uses.rows.squares(uses.streamed, self._spans)
        if problem:
            self.problem(f"{target.name}: {problem}")
            return
        self.add(target, index, sparse)
        if self.dots is not None and self.multiplies:
            self.dots.take_rows(target, *uses.rows.entries())
        if self.columns is not None and self.columns.pays(target) and self._spans:
            owner, tokens, rows = uses.rows.entries()
            spans = torch.isin(owner, torch.tensor(list(self._spans), device=owner.device))
            self.columns.take_rows(target, owner[spans], tokens[spans], rows[spans])
            return
        for i in set(uses.rows.members()).intersection(self._spans):
            uses.rows.add_into(self._spans.of(target, i), i)

    def _projects(self, target: Target) -> bool:
        return self.columns is not None and self.columns.holds(target)

    def _keep(self, target: Target, trajectory: int, gradient: Tensor) -> None:
        """Add a gradient to others of the trajectory that are known later, or wait as sketches."""
        if self.columns is not None and self.columns.pays(target):
            self.columns.take_whole(target, trajectory, gradient)
        else:
            self._spans.of(target, trajectory).add_(gradient)

    def _of(self, target: Target) -> Uses:
        uses = self._uses.get(target)
        if uses is None:
            uses = self._uses[target] = Uses()
        return uses
