"""Finished episodes as tensors: one record format for every environment, batch and reserve."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(kw_only=True, slots=True)
class Episodes:
    """Finished episodes, one a row; every tensor is (rows,) unless stated."""

    prompt: Tensor
    """Prompt, and thereby group (int64)."""
    horizon: Tensor
    """Budget of turns (int64)."""
    observations: Tensor
    """(rows, decisions, features) float32; zero where not valid."""
    allowed: Tensor | None
    """(rows, decisions, choices) bool; None: everything is allowed everywhere."""
    valid: Tensor
    """(rows, decisions) bool: the decision was really made."""
    strategic: Tensor
    """(rows, decisions) bool: valid, and picks what to do rather than how to spell it."""
    turn: Tensor
    """(rows, decisions) int64: turn of the decision."""
    actions: Tensor
    """(rows, decisions) choices made (int64)."""
    log_prob: Tensor
    """Log-probability under the policy that sampled them, in nats (float64)."""
    entropy: Tensor
    """Mean entropy of that policy over the valid decisions, in nats per decision."""
    strategic_entropy: Tensor
    """The same over the strategic decisions; NaN where there are none."""
    sampled_at: Tensor
    """Optimizer updates that policy had seen (int64)."""

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def length(self) -> Tensor:
        """(rows,) int64: valid decisions, the tokens of a trajectory."""
        return self.valid.sum(1)

    def rows(self, chosen: Tensor) -> "Episodes":
        """The chosen rows: bool (rows,) or indices."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, part in values.items():
            values[name] = None if part is None else part[chosen]
        return Episodes(**values)

    def trimmed(self, at: Tensor) -> "Episodes":
        """The rows at the indices ``at``, without the decisions that are valid in none of them."""
        used = self.valid[at].any(0).nonzero().flatten()
        used = used if len(used) else torch.zeros(1, dtype=torch.int64)
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, part in values.items():
            if part is not None:
                values[name] = part[at[:, None], used] if name in _WIDE else part[at]
        return Episodes(**values)


_WIDE = ("observations", "allowed", "valid", "strategic", "turn", "actions")


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """The rows of all parts, in order; narrower parts are padded with decisions not valid."""
    width = max(part.valid.shape[1] for part in parts)
    values: dict[str, Any] = {}
    for f in fields(Episodes):
        columns = [getattr(part, f.name) for part in parts]
        if all(column is None for column in columns):
            values[f.name] = None
        elif f.name in _WIDE:
            fill = f.name == "allowed"
            values[f.name] = torch.cat([_widened(column, width, fill) for column in columns])
        else:
            values[f.name] = torch.cat(columns)
    return Episodes(**values)


def _widened(values: Tensor, width: int, fill: bool) -> Tensor:
    missing = width - values.shape[1]
    if not missing:
        return values
    shape = (values.shape[0], missing, *values.shape[2:])
    return torch.cat([values, torch.full(shape, fill, dtype=values.dtype)], 1)
