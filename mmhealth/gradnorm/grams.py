"""Norms of products of which nothing else is wanted, without the products.

The squared norm of ``G = g^T x`` over the T rows of a trajectory is a sum over pairs of its rows,
``|G|^2 = sum over s, t of <g_s, g_t> <x_s, x_t>`` (Li, Tramer, Liang and Hashimoto 2022,
arXiv:2110.05679, section 4): T^2 (in + out) multiplications in place of T in out. That is less for
trajectories that are short beside the width of the layer. Summands may cancel: where they leave too
little of their size, G itself is computed.
"""

import torch
from torch import Tensor

from mmhealth.gradnorm.charges import squared

_SMALL = 1 << 14
"""Elements of a weight up to which calls cost more than products."""
_SOUND = 1 / 16
"""Least share of the sum's diagonal, the scale of its rounding, that a squared norm may be."""
_LEAST, _MOST = 1e-30, 1e30
"""Squared norms between which float32 products neither vanish nor overflow."""


def pay(left: Tensor, right: Tensor, length: int) -> bool:
    """Whether `norms` of (rows, m) and (rows, n), trajectories of ``length`` rows, cost less.

    On the CPU alone: elsewhere the check for what is lost would wait for the device.
    """
    if left.device.type != "cpu" or left.dtype != right.dtype:
        return False
    m, n = left.shape[1], right.shape[1]
    wide = left.dtype in (torch.float32, torch.float64)
    return wide and m * n > _SMALL and length * (m + n) < m * n


def norms(left: Tensor, right: Tensor, length: int) -> Tensor:
    """(members,) float64 norms of ``left^T right`` over each trajectory's rows."""
    left = left.reshape(-1, length, left.shape[1])
    right = right.reshape(-1, length, right.shape[1])
    squares, sound = of_pairs(torch.bmm(left, left.mT), torch.bmm(right, right.mT))
    for i in (~sound).nonzero().flatten().tolist():
        if squares[i] != 0 or (left[i].any() and right[i].any()):
            squares[i] = squared(left[i].mT @ right[i])
    return squares.sqrt()


def of_pairs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """(members,) float64 squared norms from (members, T, T) products of the rows of g and of x with
    each other, and whether each is as exact as a product would have been.
    """
    terms = left * right
    squares = terms.sum((1, 2), dtype=torch.float64)
    scale = terms.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.float64)
    sound = (squares >= _SOUND * scale) & (squares > _LEAST) & (squares < _MOST)
    return squares, sound
