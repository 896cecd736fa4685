"""`torch.nn.MultiheadAttention`, its projections owned, the attention itself torch's own.

The packed input projection is one product where query, key and value are the same tensor. Where
they are not, each goes through the whole packed weight and keeps its third: more work than torch
does, and three uses of one parameter, added before the square.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmhealth.gradnorm.follow import ids_of, put_ids

Project = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``x W^T + b`` with the weights' gradients owned."""


def attend(
    project: Project,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Arguments and results of `torch.nn.functional.multi_head_attention_forward`.

    (time, rows, features); the caller has seen to it that ``bias_k``, ``add_zero_attn`` and
    separate projections are absent.
    """
    assert in_proj_weight is not None
    time, rows, width = query.shape
    if query is key and key is value:
        q, k, v = project(query, in_proj_weight, in_proj_bias).chunk(3, -1)
    else:
        parts = [project(x, in_proj_weight, in_proj_bias) for x in (query, key, value)]
        q, k, v = (part.chunk(3, -1)[at] for at, part in enumerate(parts))
    q, k, v = (t.reshape(len(t), rows, num_heads, -1).permute(1, 2, 0, 3) for t in (q, k, v))
    mask = _mask(attn_mask, key_padding_mask, rows, num_heads, q)
    dropout = dropout_p if training else 0.0
    weights = None
    if need_weights:
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores + mask
        weights = functional.dropout(scores.softmax(-1), dropout)
        mixed = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        causal = is_causal and mask is None
        mixed = functional.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
    mixed = mixed.permute(2, 0, 1, 3).reshape(time, rows, width)
    put_ids(mixed, ids_of(query))
    return project(mixed, out_proj_weight, out_proj_bias), weights


def _mask(
    mask: Tensor | None, padding: Tensor | None, rows: int, heads: int, like: Tensor
) -> Tensor | None:
    """Both masks as one that is added to (rows, heads, time, time) scores."""
    total = None
    if mask is not None:
        mask = _added(mask, like)
        total = (
            mask
            if mask.ndim == 2
            else mask.view(-1, heads if len(mask) > 1 else 1, *mask.shape[1:])
        )
    if padding is not None:
        added = _added(padding, like).view(rows, 1, 1, -1)
        total = added if total is None else total + added
    return total


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
