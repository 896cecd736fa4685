"""With ``bitwise`` the meter leaves every bit of the gradients as it is."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmhealth.errors import UncoveredParameterError
from mmhealth.gradnorm import GradNorms, batch_rows, packed, segment_ids


class Positions(nn.Module):
    """Adds learned positions and scales by a gain, as RMSNorms written by hand do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 16))
        self.gain = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.table
        return self.gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48, bias=False), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 40), nn.Linear(40, 16)

    def forward(self, x: Tensor) -> Tensor:
        rows, time, _ = x.shape
        split = (rows, time, 2, 8)
        q, k, v = (t.view(split).transpose(1, 2) for t in self.qkv(self.before(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.after(x))))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(13, 16)
        self.body = nn.Sequential(Positions(), Block(), Block())

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.body(self.table(tokens)), self.table.weight)


def mlp() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 5)), torch.randn(6, 9, 7)


def shared() -> tuple[nn.Module, Tensor]:
    layer = nn.Linear(7, 7)
    return nn.Sequential(layer, nn.Tanh(), layer), torch.randn(6, 9, 7)


def decoder() -> tuple[nn.Module, Tensor]:
    blocks = nn.Sequential(nn.Embedding(13, 16), Positions(), Block(), nn.Linear(16, 13))
    return blocks, torch.randint(0, 13, (6, 9))


def tied() -> tuple[nn.Module, Tensor]:
    return Tied(), torch.randint(0, 13, (6, 9))


LAYOUTS = {
    "rows": lambda: 6,
    "two rows a trajectory": lambda: torch.tensor([0, 1, 1, 0, 2, 2]),
    "padded": lambda: batch_rows(6, torch.arange(9) < torch.tensor([[9], [4], [6], [1], [9], [2]])),
    "apart": lambda: segment_ids(torch.arange(54).view(6, 9) % 4),
}


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


CASES = [
    *itertools.product([mlp, shared], LAYOUTS),
    *itertools.product([decoder, tied], list(LAYOUTS)[:3]),
]


@pytest.mark.parametrize(("build", "layout"), CASES)
def test_gradients_are_plain_ones_bit_by_bit_and_norms_the_same(build, layout):
    torch.manual_seed(0)
    model, x = build()

    def loss() -> Tensor:
        return model(x).log_softmax(-1)[..., 0].mean()

    plain = gradients(model, loss())
    trajectories = LAYOUTS[layout]()
    with GradNorms(model, bitwise=True).step(trajectories) as norms:
        measured = gradients(model, loss())
    for ours, theirs in zip(measured, plain, strict=True):
        assert torch.equal(ours, theirs)
    with GradNorms(model).step(trajectories) as owned:
        loss().backward()
    torch.testing.assert_close(norms.per_trajectory(), owned.per_trajectory(), rtol=1e-5, atol=1e-9)


def test_one_packed_row_too():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(13, 16), nn.LayerNorm(16), nn.Linear(16, 13))
    tokens = torch.randint(0, 13, (1, 30))

    def loss() -> Tensor:
        return model(tokens).log_softmax(-1)[..., 0].mean()

    plain = gradients(model, loss())
    with GradNorms(model, bitwise=True).step(packed([0, 3, 17, 30])):
        measured = gradients(model, loss())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(measured, plain, strict=True))


@pytest.mark.parametrize(
    "module", [nn.GRU(4, 4, batch_first=True), nn.GroupNorm(2, 4), nn.RMSNorm(4)]
)
def test_what_cannot_keep_the_bits_is_refused_by_name(module):
    x = torch.randn(3, 4, 4)
    with (
        pytest.raises(UncoveredParameterError, match="bitwise"),
        GradNorms(module, bitwise=True).step(3),
    ):
        module(x)
