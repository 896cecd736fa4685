"""The table of an embedding, owned: repeated tokens of a trajectory are added before the square."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm.passes import Gradients, Saved, backward_pass
from mmhealth.gradnorm.use import Use


@dataclass(frozen=True, eq=False)
class Table:
    """How one call looks up."""

    use: Use
    padding: int
    """Index whose row gets no gradient, -1 if none."""
    shared: bool = False
    """Whether all rows of the indices are the same positions, looked up once by the user."""


def look_up(indices: Tensor, table: Tensor, how: Table) -> Tensor:
    """(...,) indices to (..., d) rows of the table, with its gradient owned."""
    rows: Tensor = _LookUp.apply(indices, table, how)  # type: ignore[no-untyped-call]
    return rows


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, table: Tensor, how: Table) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.how, ctx.entries = how, len(table)
        return torch.nn.functional.embedding(indices, table)

    @staticmethod
    @backward_pass
    def backward(ctx: Any, saved: Saved, gradient: Tensor) -> Gradients:
        (indices,) = saved
        how: Table = ctx.how
        use = how.use
        g = gradient.reshape(-1, gradient.shape[-1])
        tokens = indices.reshape(-1)
        ids = use.live(g).ids
        counted = (tokens != how.padding) & (ids >= 0)
        use.ledger.take_rows(use.handle.target, ids[counted], tokens[counted], g[counted])
        if how.shared:
            gradient, indices = gradient.sum(0), indices[0]
        whole = torch.ops.aten.embedding_dense_backward(
            gradient, indices, ctx.entries, how.padding, False
        )
        return None, use.hand_out(whole), None
