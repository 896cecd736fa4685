"""Norms from products of rows with each other equal the norms of the products themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmhealth.gradnorm import GradNorms, grams


def plain(left: Tensor, right: Tensor, length: int) -> Tensor:
    pairs = zip(left.double().split(length), right.double().split(length), strict=True)
    return torch.stack([(a.T @ b).norm() for a, b in pairs])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    members=st.integers(1, 4),
    length=st.integers(1, 9),
    scale=st.sampled_from([1e-25, 1e-12, 1.0, 1e12]),
    common=st.sampled_from([0.0, 1.0, 100.0]),
    dead=st.booleans(),
)
def test_norms_equal_those_of_the_products(seed, members, length, scale, common, dead):
    """``common`` is what all rows of x share, as hidden states do: gradients cancel on it."""
    draw = torch.Generator().manual_seed(seed)
    g = torch.randn(members * length, 5, generator=draw) * scale
    x = torch.randn(members * length, 7, generator=draw) + common
    if dead:
        g[:length] = 0
    found = grams.norms(g, x, length)
    torch.testing.assert_close(found, plain(g, x, length), rtol=1e-5, atol=0)
    assert not dead or found[0] == 0


def test_rows_that_cancel_are_multiplied():
    """The rounding of float32 alone would be a norm of 1e-2 here."""
    g = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    x = torch.tensor([[4096.0, 1.0, 0.0], [4096.0, 1.0, 1e-3]])
    torch.testing.assert_close(grams.norms(g, x, 2), plain(g, x, 2), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad):
    g, x = torch.zeros(6, 4), torch.ones(6, 4)
    g[0, 0] = bad
    found = grams.norms(g, x, 3)
    assert not found[0].isfinite()
    assert found[1] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wide_layer_has_exact_norms_and_gradients_to_the_bit(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(150, 200), nn.Tanh(), nn.Linear(200, 150)).to(dtype)
    x = torch.randn(5, 6, 150, dtype=dtype)
    assert grams.pay(x.flatten(0, 1), torch.zeros(30, 200, dtype=dtype), 6)
    weight = torch.tensor([1.0, -2.0, 0.0, 1e-3, 30.0], dtype=dtype)
    terms = (model(x).square().mean((1, 2)) * weight).unbind()
    exact = []
    for term in terms:
        gradients = torch.autograd.grad(term, tuple(model.parameters()), retain_graph=True)
        exact.append(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())
    torch.autograd.backward((model(x).square().mean((1, 2)) * weight).sum())
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with GradNorms(model, bitwise=True).step(5) as norms:
        (model(x).square().mean((1, 2)) * weight).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), wanted, strict=True))
    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(norms.per_trajectory(), torch.stack(exact), rtol=rtol, atol=0)
