"""Sketched gradients of linear maps: a few random columns of each trajectory's gradient.

For a weight with gradient G_i of trajectory i and a random vector v of independent signs,
``E |G_i v|^2 = |G_i|^2``. G_i v needs no G_i: with rows g, x of the trajectory and k such vectors
V it is ``g^T (x V)``. The larger side of the weight is projected, so that what is left of each
trajectory is (k, the smaller side); the parameter's gradient stays the plain product over all rows.
Hutchinson's estimator (Hutchinson, 1990, Commun. Stat. Simul. Comput. 19(2)) of the trace of
``G^T G``. Each column is an estimate of its own: their spread is the error
(`mmhealth.gradnorm.replicates`).

Of one column the relative standard deviation of the square is at most sqrt(2) (a gradient of rank
one), so of k columns that of the norm is about ``1 / sqrt(2 k)`` at most: 0.18 at k = 16, 0.09 at
k = 64. Columns of different parameters are independent, and together err less.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from mmhealth.errors import GradNormError
from mmhealth.gradnorm.segments import Segments


@dataclass(frozen=True, slots=True)
class Sketch:
    """Mode of `GradNorms`: squared norms of large weights estimated from ``k`` random columns.

    Unbiased for squared norms; weights that are small, biases, gains and embeddings stay exact.
    Columns are drawn anew for each step and parameter, from ``seed`` alone.
    """

    k: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 2:
            raise GradNormError(f"Sketch(k={self.k}): an error can be known from two columns on")

    def pays(self, shape: torch.Size) -> bool:
        """Whether a gradient of this shape is sketched: a matrix, and k columns of both sides take
        fewer products than one more weight gradient would.
        """
        return len(shape) == 2 and self.k * (shape[0] + shape[1]) < shape[0] * shape[1]

    def elements(self, shape: torch.Size) -> int:
        """Numbers kept of one trajectory's gradient while it waits for more."""
        return self.k * min(shape) if self.pays(shape) else shape.numel()

    def signs(self, step: int, name: str, shape: torch.Size) -> Tensor:
        """(larger side, k) of -1 and 1, int8: the vectors of a parameter in a step."""
        key = blake2b(f"{self.seed}/{step}/{name}".encode(), digest_size=16).digest()
        generator = np.random.default_rng(int.from_bytes(key, "little"))
        count = max(shape) * self.k
        bits = np.unpackbits(np.frombuffer(generator.bytes((count + 7) // 8), np.uint8))[:count]
        return torch.from_numpy(2 * bits.view(np.int8).reshape(max(shape), self.k) - 1)


def sketched(gradients: Tensor, signs: Tensor) -> Tensor:
    """(n, k, smaller side) of (n, rows, columns) whole gradients."""
    tall = gradients.shape[1] >= gradients.shape[2]
    wide = torch.promote_types(gradients.dtype, torch.float32)
    turned = gradients.to(wide) if tall else gradients.to(wide).transpose(1, 2)
    result: Tensor = signs.to(wide).t() @ turned
    return result


def sketched_products(left: Tensor, right: Tensor, live: Segments, signs: Tensor) -> Tensor:
    """(n, k, smaller side) of the gradients ``left^T right`` over each trajectory's rows.

    left (rows, r), right (rows, c), as `Segments.gathered` gives them. Half precision is taken in
    float32: signed sums are larger than their terms.
    """
    if left.dtype == torch.float16:
        left, right = left.float(), right.float()
    tall = left.shape[1] >= right.shape[1]
    large, small = (left, right) if tall else (right, left)
    projected = large @ signs.to(large.dtype)
    wide = torch.promote_types(large.dtype, torch.float32)
    count = len(live.index)
    if live.length is not None:
        tiles = count, live.length
        tall_side = projected.view(*tiles, projected.shape[1]).mT
        return torch.bmm(tall_side, small.reshape(*tiles, small.shape[1])).to(wide)
    result = large.new_empty(count, signs.shape[1], small.shape[1])
    for at, (_, (a, b)) in enumerate(live.stretches(projected, small)):
        torch.mm(a.t(), b, out=result[at])
    return result.to(wide)


def sketched_rows(
    owner: Tensor, tokens: Tensor, rows: Tensor, shape: torch.Size, signs: Tensor
) -> tuple[list[int], Tensor]:
    """Trajectories and (n, k, smaller side) of sparse gradients of a table.

    (entries,) trajectories and table rows, (entries, columns) the gradients of those rows.
    """
    members, at = owner.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    v = signs.to(rows.dtype)
    result = rows.new_zeros(len(members), v.shape[1], min(shape))
    if shape[0] >= shape[1]:
        for n in range(len(members)):
            mine = at == n
            result[n] = v[tokens[mine]].t() @ rows[mine]
    else:
        result.transpose(1, 2).index_put_((at, tokens), rows @ v, accumulate=True)
    return members.tolist(), result


def squared_columns(sketches: Tensor) -> Tensor:
    """(n, k) float64: an estimate of each squared norm from each column of (n, k, smaller side)."""
    norms: Tensor = torch.linalg.vector_norm(sketches, dim=2, dtype=torch.float64)
    return norms.square()


@dataclass(frozen=True, slots=True)
class Turn:
    """How the gradient of a tensor becomes that of the parameter it stands for."""

    sign: float = 1.0
    transposed: bool = False


def turn_of(
    back: Callable[[Tensor], Tensor], shape: tuple[int, int], target: torch.Size
) -> Turn | None:
    """The turn of a gradient (rows, columns); None where there is none, as of a reshape."""
    probe = torch.empty(shape, device="meta")
    there = back(probe)
    for turned, one in ((False, probe), (True, probe.t())):
        if target == there.shape == one.shape and there.stride() == one.stride():
            return Turn(float(back(torch.ones(1, 1).expand(shape))[0, 0]), turned)
    return None
