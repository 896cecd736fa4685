import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmhealth.errors import GradNormError, UncoveredParameterError
from mmhealth.gradnorm import GradNorms


class Tagger(nn.Module):
    """Two layers over time, the inner one used twice."""

    def __init__(self, dtype: torch.dtype = torch.float64, *, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7, bias=bias, dtype=dtype)
        self.inner = nn.Linear(7, 7, bias=bias, dtype=dtype)
        self.last = nn.Linear(7, 3, bias=bias, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = torch.tanh(self.inner(h))
        h = torch.tanh(self.inner(h))
        return self.last(h).log_softmax(-1)


def terms(model: nn.Module, x: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """One term a row: weighted log-probability of choice 0 at valid times."""
    return weight * (model(x)[..., 0] * valid).sum(-1)


def batch(rows: int, time: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, time, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(rows, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, time + 1, (rows,), generator=generator)
    valid = (torch.arange(time) < lengths[:, None]).to(dtype)
    return x.to(dtype), weight.to(dtype), valid


def naive(model: nn.Module, x: Tensor, weight: Tensor, valid: Tensor, owner: Tensor) -> Tensor:
    """Backpropagate one trajectory at a time, in float64."""
    model = copy.deepcopy(model).double()
    norms = []
    for trajectory in range(int(owner.max()) + 1):
        model.zero_grad()
        mine = owner == trajectory
        loss = terms(model, x[mine].double(), weight[mine].double(), valid[mine].double()).sum()
        (loss / len(x)).backward()
        squares = [float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None]
        norms.append(sum(squares) ** 0.5)
    return torch.tensor(norms, dtype=torch.float64)


@given(
    rows=st.integers(1, 9),
    time=st.integers(1, 5),
    trajectories=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_one_backward_per_trajectory(rows, time, trajectories, seed, bias):
    torch.manual_seed(seed)
    model = Tagger(bias=bias)
    x, weight, valid = batch(rows, time, seed=seed)
    owner = torch.randint(0, trajectories, (rows,))
    with GradNorms(model).step(owner) as norms:
        terms(model, x, weight, valid).mean().backward()
    torch.testing.assert_close(
        norms.per_trajectory(), naive(model, x, weight, valid, owner), rtol=1e-10, atol=1e-12
    )


def test_float32_is_exact_to_rounding():
    torch.manual_seed(1)
    model = Tagger(torch.float32)
    x, weight, valid = batch(64, 9, torch.float32)
    with GradNorms(model).step(64) as norms:
        terms(model, x, weight, valid).mean().backward()
    measured = norms.per_trajectory()
    assert measured.dtype == torch.float64
    assert measured.shape == (64,)
    torch.testing.assert_close(
        measured, naive(model, x, weight, valid, torch.arange(64)), rtol=1e-5, atol=0
    )


def test_many_chunks_give_the_same_norms():
    model = nn.Linear(600, 600, dtype=torch.float64)
    x = torch.randn(11, 2, 600, dtype=torch.float64)
    owner = torch.tensor([3, 0, 1, 1, 4, 3, 3, 2, 0, 4, 4])
    with GradNorms(model).step(owner) as norms:
        (model(x) ** 2).sum().backward()
    for trajectory in range(5):
        model.zero_grad()
        (model(x[owner == trajectory]) ** 2).sum().backward()
        expected = (model.weight.grad**2).sum() + (model.bias.grad**2).sum()
        assert float(norms.per_trajectory()[trajectory]) == pytest.approx(float(expected) ** 0.5)


def test_rows_without_a_time_axis():
    model = nn.Linear(3, 2, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    with GradNorms(model).step(2) as norms:
        model(x)[:, 0].sum().backward()
    # weight gradient x, bias gradient 1, both of output 0 alone
    assert norms.per_trajectory().tolist() == pytest.approx([2**0.5, 5**0.5])


def test_opposite_rows_of_one_trajectory_cancel():
    model = nn.Linear(3, 2, dtype=torch.float64)
    x = torch.ones(2, 3, dtype=torch.float64)
    with GradNorms(model).step(torch.tensor([0, 0])) as norms:
        (model(x).sum(1) * torch.tensor([1.0, -1.0])).sum().backward()
    assert norms.per_trajectory().tolist() == [0.0]


def test_tied_weights_are_added_before_the_square():
    first, second = (nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(2))
    second.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), second)
    x = torch.randn(6, 4, dtype=torch.float64)
    with GradNorms(model).step(6) as norms:
        (model(x) ** 2).sum().backward()
    expected = []
    for row in x:
        model.zero_grad()
        (model(row[None]) ** 2).sum().backward()
        expected.append(float(first.weight.grad.norm()))
    assert norms.per_trajectory().tolist() == pytest.approx(expected, rel=1e-12)


def test_several_backward_passes_are_added():
    torch.manual_seed(3)
    model = Tagger()
    x, weight, valid = batch(5)
    with GradNorms(model, shared=["*"]).step(5) as norms:
        parts = terms(model, x, weight, valid) / len(x)
        (parts.sum() * 0.25).backward(retain_graph=True)
        (parts.sum() * 0.75).backward()
    expected = naive(model, x, weight, valid, torch.arange(5))
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=1e-12)


def test_norms_carry_the_scale_of_the_loss():
    torch.manual_seed(4)
    model = Tagger()
    x, weight, valid = batch(4)
    meter = GradNorms(model)
    with meter.step(4) as mean:
        terms(model, x, weight, valid).mean().backward()
    with meter.step(4) as total:
        terms(model, x, weight, valid).sum().backward()
    torch.testing.assert_close(total.per_trajectory(), 4 * mean.per_trajectory())


def test_frozen_parameters_do_not_count():
    torch.manual_seed(5)
    model = Tagger()
    model.first.requires_grad_(False)
    model.inner.bias.requires_grad_(False)
    x, weight, valid = batch(4)
    with GradNorms(model).step(4) as norms:
        terms(model, x, weight, valid).mean().backward()
    expected = naive(model, x, weight, valid, torch.arange(4))
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=1e-12)


def test_forward_passes_without_gradient_are_ignored():
    torch.manual_seed(6)
    model = Tagger()
    x, weight, valid = batch(4)
    with GradNorms(model).step(4) as norms:
        with torch.no_grad():
            model(torch.cat([x, x]))
        terms(model, x, weight, valid).mean().backward()
    expected = naive(model, x, weight, valid, torch.arange(4))
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=1e-12)


def test_no_hook_outlives_the_step():
    model = Tagger()
    x, weight, valid = batch(3)
    meter = GradNorms(model)
    with pytest.raises(ZeroDivisionError), meter.step(3) as norms:
        raise ZeroDivisionError
    with pytest.raises(GradNormError, match="ZeroDivisionError"):
        norms.per_trajectory()
    with meter.step(3):
        terms(model, x, weight, valid).mean().backward()
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_names_every_uncovered_parameter():
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1), nn.Bilinear(4, 4, 3, bias=False))
    with pytest.raises(UncoveredParameterError, match=r"1\.weight.*1\.bias.*2\.weight") as caught:
        GradNorms(model)
    assert "0.weight" not in str(caught.value)
    model[1].requires_grad_(False)
    model[2].requires_grad_(False)
    GradNorms(model)


def test_a_layer_with_a_forward_of_its_own_is_measured_as_it_computes():
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model, x = Scaled(2, 1, bias=False), torch.tensor([[3.0, 4.0]])
    with GradNorms(model).step(1) as norms:
        model(x).sum().backward()
    assert norms.per_trajectory().tolist() == [10.0]


def test_refuses_to_read_before_a_backward():
    model = Tagger()
    x, weight, valid = batch(3)
    with GradNorms(model).step(3) as norms:
        loss = terms(model, x, weight, valid).mean()
        with pytest.raises(GradNormError):
            norms.per_trajectory()
    loss.backward()
    with pytest.raises(GradNormError, match="backward"):
        norms.per_trajectory()


def test_refuses_another_number_of_rows():
    model = Tagger()
    x, weight, valid = batch(3)
    refused = pytest.raises(UncoveredParameterError, match=r"first\.weight .* opened for 4 rows")
    with refused, GradNorms(model).step(4):
        terms(model, x, weight, valid)


def test_refuses_a_parameter_used_outside_its_module():
    model = Tagger()
    x, weight, valid = batch(3)
    refused = pytest.raises(UncoveredParameterError, match=r"last\.weight .*'pow'")
    with refused, GradNorms(model).step(3):
        terms(model, x, weight, valid).mean() + 0.1 * (model.last.weight**2).sum()


@pytest.mark.parametrize(
    "trajectories", [torch.tensor([0.0, 1.0]), torch.tensor([[0, 1]]), torch.tensor([-1, 0])]
)
def test_refuses_a_map_that_is_none(trajectories):
    with pytest.raises(GradNormError, match="trajectories"):
        GradNorms(Tagger()).step(trajectories)
