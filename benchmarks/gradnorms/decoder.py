"""A pre-norm decoder as language models have it, for dense, padded and packed rows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

HEAD_WIDTH = 64


class Block(nn.Module):
    """Causal attention and an MLP four times as wide, each after a LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.activation = nn.GELU()

    def forward(self, x: Tensor, segments: Sequence[int] | None) -> Tensor:
        """(rows, time, width) twice; ``segments`` are the lengths within a packed row."""
        x = x + self.merge(self._attend(self.qkv(self.norm_attention(x)), segments))
        return x + self.down(self.activation(self.up(self.norm_mlp(x))))

    def _attend(self, qkv: Tensor, segments: Sequence[int] | None) -> Tensor:
        rows, time, width = *qkv.shape[:2], qkv.shape[2] // 3
        heads = qkv.view(rows, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        if segments is None:
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            parts = zip(*(x.split(list(segments), 2) for x in (query, key, value)), strict=True)
            each = [scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in parts]
            mixed = torch.cat(each, 2)
        return mixed.transpose(1, 2).reshape(rows, time, width)


class Decoder(nn.Module):
    """Tokens and positions (rows, time) to logits (rows, time, vocab); nothing is shared."""

    def __init__(self, width: int = 256, depth: int = 4, vocab: int = 1024, longest: int = 1024):
        super().__init__()
        self.token = nn.Embedding(vocab, width)
        self.position = nn.Embedding(longest, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(
        self, tokens: Tensor, positions: Tensor, segments: Sequence[int] | None = None
    ) -> Tensor:
        """``segments``: lengths of the trajectories packed in the one row."""
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x, segments)
        logits: Tensor = self.head(self.norm(x))
        return logits
