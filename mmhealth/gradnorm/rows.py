"""`RowSums`: gradients of one table (embedding), sparse over (trajectory, token).

Repeated tokens are added before the square. A dense use of the same table, a tied head, streams
its gradient H of a trajectory once; kept of it are the rows of that trajectory's own tokens, which
is all that the cross term ``2 <H, E>`` needs.
"""

from collections.abc import Callable, Container

import torch
from torch import Tensor

_SHIFT = 1 << 32


class RowSums:
    """Sparse gradients of one table in one part of a step."""

    def __init__(self) -> None:
        self.taken = False
        self.lookups = 0
        self._expected: list[tuple[Tensor, Tensor]] = []
        self._mine: dict[int, Tensor] = {}
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._keys: list[Tensor] = []
        self._grads: list[Tensor] = []
        self._whole: tuple[Tensor, Tensor] | None = None

    def expect(self, ids: Tensor, tokens: Tensor) -> None:
        """(tokens,) trajectories and table rows that a forward pass reads."""
        self.lookups += 1
        self._expected.append((ids, tokens))
        self._mine.clear()

    def own(self, trajectory: int) -> Tensor | None:
        """Table rows, rising, that the trajectory's own tokens read; None if none do."""
        if self._expected and not self._mine:
            ids = torch.cat([ids for ids, _ in self._expected])
            tokens = torch.cat([tokens for _, tokens in self._expected])
            for i in ids.unique().tolist():  # type: ignore[no-untyped-call]
                self._mine[i] = tokens[ids == i].unique()  # type: ignore[no-untyped-call]
        return self._mine.get(trajectory)

    def keep(self, trajectory: int, rows: Tensor) -> None:
        """Keep these rows, those that are the trajectory's `own`, of a dense gradient."""
        mine = self.own(trajectory)
        if mine is not None:
            self._kept[trajectory] = mine, rows

    def take(self, ids: Tensor, tokens: Tensor, gradients: Tensor) -> None:
        """Add (tokens, d) gradients of table rows."""
        self.taken = True
        keys, at = (ids * _SHIFT + tokens).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        dtype = torch.promote_types(gradients.dtype, torch.float32)
        sums = torch.zeros(len(keys), gradients.shape[1], dtype=dtype, device=gradients.device)
        self._keys.append(keys)
        self._grads.append(sums.index_add_(0, at, gradients.to(dtype)))
        self._whole = None

    def members(self) -> list[int]:
        """Trajectories that read the table."""
        keys, _ = self._all()
        owner = keys.div(_SHIFT, rounding_mode="floor")
        return [int(i) for i in owner.unique().tolist()]  # type: ignore[no-untyped-call]

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """(entries,) trajectories and table rows, (entries, d) their gradients; each pair once."""
        keys, grads = self._all()
        return keys.div(_SHIFT, rounding_mode="floor"), keys % _SHIFT, grads

    def squares(self, dense: bool, without: Container[int]) -> tuple[Tensor, Tensor, str | None]:
        """Trajectories, their squared norms with the cross term of a dense use, and a problem."""
        keys, grads = self._all()
        owner = keys.div(_SHIFT, rounding_mode="floor")
        members = owner.unique().tolist()  # type: ignore[no-untyped-call]
        square = grads.double().square().sum(1)
        if not members:
            return owner, square, None
        if dense:
            cross, problem = self._cross(keys, grads)
            if problem:
                return owner, square, problem
            square = square + 2 * cross
        totals = torch.zeros(int(owner.max()) + 1, dtype=torch.float64, device=square.device)
        totals.index_add_(0, owner, square)
        kept = [i for i in members if i not in without]
        index = torch.tensor(kept, dtype=torch.long, device=totals.device)
        return index, totals[index], None

    def add_into(self, buffer: Tensor, trajectory: int) -> None:
        """Add a trajectory's rows to a dense gradient."""
        keys, grads = self._all()
        mine = keys.div(_SHIFT, rounding_mode="floor") == trajectory
        buffer.index_add_(0, keys[mine] % _SHIFT, grads[mine].to(buffer.dtype))

    def summand(self, table: Tensor) -> Callable[[int], Tensor | None]:
        """The same as dense gradients of the table, one trajectory at a time."""

        def dense(trajectory: int) -> Tensor | None:
            dtype = torch.promote_types(table.dtype, torch.float32)
            gradient = torch.zeros(table.shape, dtype=dtype, device=table.device)
            self.add_into(gradient, trajectory)
            return gradient

        return dense

    def _cross(self, keys: Tensor, grads: Tensor) -> tuple[Tensor, str | None]:
        missing = "an embedding read rows unknown when its tied head was differentiated"
        if not self._kept:
            return keys.new_zeros(len(keys), dtype=torch.float64), missing
        ordered = sorted(self._kept.items())
        held = torch.cat([i * _SHIFT + mine for i, (mine, _) in ordered])
        rows = torch.cat([rows for _, (_, rows) in ordered])
        at = torch.searchsorted(held, keys).clamp(max=len(held) - 1)
        absent = held[at] != keys
        alone = ~torch.isin(
            keys.div(_SHIFT, rounding_mode="floor"),
            torch.tensor([i for i, _ in ordered], device=keys.device),
        )
        if bool((absent & ~alone).any()):
            return keys.new_zeros(len(keys), dtype=torch.float64), missing
        cross = (grads.double() * rows[at].double()).sum(1)
        return torch.where(absent, torch.zeros_like(cross), cross), None

    def _all(self) -> tuple[Tensor, Tensor]:
        if self._whole is None:
            keys, at = torch.cat(self._keys).unique(return_inverse=True)  # type: ignore[no-untyped-call]
            grads = torch.cat(self._grads)
            sums = grads.new_zeros(len(keys), grads.shape[1]).index_add_(0, at, grads)
            self._whole = keys, sums
        return self._whole
