"""Rows and tokens that are moved before, between and after layers, with and without gradient."""

import pytest
import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms

ROWS = TIME = 5
"""Equal on purpose: shapes alone do not tell which axis is the row."""


class Network(nn.Module):
    """Two layers around a move of rows; ``move`` gets the features and gives them in any order."""

    def __init__(self, move, *, raw: bool) -> None:
        super().__init__()
        self.move, self.raw = move, raw
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.move(x)) if self.raw else self.move(torch.tanh(self.first(x)))
        return self.last(torch.tanh(h))


ORDER = torch.tensor([3, 0, 4, 1, 2])
BACK = ORDER.argsort()

MOVES = {
    "sorted": (lambda x: x[ORDER], lambda y: y[BACK]),
    "flipped": (lambda x: x.flip(0), lambda y: y.flip(0)),
    "flipped up": (lambda x: x.flipud(), lambda y: y.flipud()),
    "time first": (lambda x: x.transpose(0, 1), lambda y: y.transpose(0, 1)),
    "taken": (lambda x: x.take_along_dim(ORDER[:, None, None], 0), lambda y: y[BACK]),
    "turned": (lambda x: x.rot90(), lambda y: y.rot90(-1)),
    "unbound": (lambda x: torch.stack(x.unbind(0)[::-1]), lambda y: y.flip(0)),
    "iterated": (lambda x: torch.stack([row.tanh() for row in x][::-1]), lambda y: y.flip(0)),
    "split": (lambda x: torch.cat(x.split(1)[::-1]), lambda y: y.flip(0)),
    "chunked": (lambda x: torch.cat(x.chunk(2)[::-1]), lambda y: torch.cat([y[2:], y[:2]])),
}


@pytest.mark.parametrize("raw", [True, False], ids=["data", "features"])
@pytest.mark.parametrize("name", MOVES)
def test_norms_follow_the_rows(name, raw, oracle):
    torch.manual_seed(0)
    there, back = MOVES[name]
    model, x = Network(there, raw=raw).double(), torch.randn(ROWS, TIME, 4, dtype=torch.float64)

    def terms() -> Tensor:
        out = back(model(x)).tanh()
        return (out * torch.linspace(-1, 2, 15, dtype=torch.float64).view(TIME, 3)).sum((1, 2))

    with GradNorms(model).step(ROWS) as norms:
        terms().sum().backward()
    each = oracle(model, lambda i: terms()[i], ROWS)
    whole = torch.stack([v.square() for v in each.values()]).sum(0).sqrt()
    torch.testing.assert_close(norms.per_trajectory(), whole, rtol=1e-10, atol=0)


@pytest.mark.parametrize("layer", ["attention", "encoder"])
def test_attention_on_data_with_as_many_rows_as_steps(layer, oracle):
    torch.manual_seed(1)
    x = torch.randn(ROWS, TIME, 4, dtype=torch.float64)
    if layer == "attention":
        model = nn.MultiheadAttention(4, 2, batch_first=True).double()

        def out() -> Tensor:
            return model(x, x, x)[0]

    else:
        model = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double()

        def out() -> Tensor:
            return model(x)

    weight = torch.randn(ROWS, TIME, 4, dtype=torch.float64)
    with GradNorms(model).step(ROWS) as norms:
        (out() * weight).sum().backward()
    each = oracle(model, lambda i: (out() * weight)[i].sum(), ROWS)
    whole = torch.stack([v.square() for v in each.values()]).sum(0).sqrt()
    torch.testing.assert_close(norms.per_trajectory(), whole, rtol=1e-10, atol=0)


def test_tokens_without_padding_are_looked_up_as_they_are(oracle):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)).double()
    tokens = torch.randint(0, 9, (4, 6))
    mask = torch.arange(6) < torch.tensor([[6], [2], [3], [3]])
    owner = torch.arange(4)[:, None].expand(4, 6)[mask]

    def losses() -> Tensor:
        return model(tokens[mask]).tanh().sum(-1)

    with GradNorms(model).step(4) as norms:
        assert losses().shape == (14,)
        losses().sum().backward()
    each = oracle(model, lambda i: losses()[owner == i].sum(), 4)
    whole = torch.stack([v.square() for v in each.values()]).sum(0).sqrt()
    torch.testing.assert_close(norms.per_trajectory(), whole, rtol=1e-10, atol=0)


def test_a_parameter_used_as_a_whole_and_by_entry_is_refused():
    weight = nn.Parameter(torch.randn(4, 4))
    model = nn.ParameterList([weight])
    x = torch.randn(3, 4)
    with GradNorms(model).step(3) as norms:
        ((x + weight[0]) @ weight.t()).sum().backward()
    with pytest.raises(GradNormError, match="by single entries"):
        norms.per_trajectory()
