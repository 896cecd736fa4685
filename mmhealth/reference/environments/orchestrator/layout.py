"""What a decision sees: blocks of features, each zero where a decision has no use for it.

The six choices mean, by kind of decision: a tool (0 to 3, 0 is the popular one), an answer
(0 to 2), a token (0 to 3), or an order: work with 1 to 4 sub-agents (0 to 3), plan (4), refuse (5).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CHOICES = 6
TOOLS = 4
ANSWERS = 3
TOKENS = 4
MODALITIES = ("text", "image")
WIDEST = 4
"""Most sub-agents in a turn; order ``w - 1`` starts ``w`` of them."""
PLAN, REFUSE = 4, 5
KINDS = ("tool", "syntax", "answer", "argument", "order")
ORDER_FEATURES = 10


class Layout:
    """Where the blocks lie: kind, family, private, slot, symbol, order."""

    def __init__(self, families: int, private: int, slots: int) -> None:
        sizes = {
            "kind": len(KINDS),
            "family": families,
            "private": private,
            "slot": slots,
            "symbol": TOKENS * len(MODALITIES),
            "order": ORDER_FEATURES,
        }
        self._blocks: dict[str, slice] = {}
        at = 0
        for name, size in sizes.items():
            self._blocks[name] = slice(at, at + size)
            at += size
        self.features = at

    def observe(self, kind: str, shape: Sequence[int], **blocks: Tensor) -> Tensor:
        """(*shape, features) float32 of decisions of one kind; blocks broadcast to the shape."""
        seen = torch.zeros(*shape, self.features)
        seen[..., self._blocks["kind"].start + KINDS.index(kind)] = 1.0
        for name, values in blocks.items():
            seen[..., self._blocks[name]] = values
        return seen


def first(count: int, shape: Sequence[int]) -> Tensor:
    """(*shape, choices) bool: the first ``count`` choices are allowed."""
    return (torch.arange(CHOICES) < count).expand(*shape, CHOICES)
