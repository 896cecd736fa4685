"""Uses that plain torch allows: frozen halves, empty experts, changes in place, extreme sizes."""

import pytest
import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms, batch_rows


def one_backward_each(parameters: list[Tensor], terms: Tensor) -> Tensor:
    norms = []
    for term in terms:
        grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        norms.append(sum(float(g.double().square().sum()) for g in grads if g is not None) ** 0.5)
    return torch.tensor(norms, dtype=torch.float64)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_with_a_frozen_half(kind):
    torch.manual_seed(0)
    first, rest = nn.Linear(3, 4).double(), kind(4, 5, batch_first=True).double()
    rest.weight_ih_l0.requires_grad_(False)
    rest.bias_ih_l0.requires_grad_(False)
    model = nn.ModuleList([first, rest])
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    with GradNorms(model).step(4) as norms:
        rest(first(x))[0].tanh().sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    expected = one_backward_each(trained, rest(first(x))[0].tanh().sum((1, 2)))
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=0)


def test_an_expert_without_tokens_in_a_batch_of_one_row():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    x = torch.randn(1, 5, 3)
    everything = torch.ones(5, dtype=torch.bool)
    with GradNorms(model).step(1) as norms:
        used, unused = model[0](x[:, everything]), model[1](x[:, ~everything])
        (used.sum() + unused.sum()).backward()
    assert norms.by_module()["1"].tolist() == [0.0]


def test_the_output_of_a_gru_may_be_changed_in_place():
    torch.manual_seed(1)
    model, x = nn.GRU(3, 4, batch_first=True), torch.randn(3, 5, 3)
    with GradNorms(model).step(3) as norms:
        out = model(x)[0]
        out.mul_(2.0)
        out.sum().backward()
    assert (norms.per_trajectory() > 0).all()


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_dropout_between_recurrent_layers_draws_the_same_mask(kind):
    torch.manual_seed(2)
    model, x = kind(3, 4, num_layers=2, dropout=0.5, batch_first=True), torch.randn(4, 6, 3)
    torch.manual_seed(3)
    plain = model(x)[0]
    torch.manual_seed(3)
    with GradNorms(model).step(4):
        out = model(x)[0]
        out.sum().backward()
    torch.testing.assert_close(out, plain)


def test_float64_is_left_alone_by_autocast():
    model, x = nn.Linear(4, 3).double(), torch.randn(3, 4, dtype=torch.float64)
    with GradNorms(model).step(3), torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        assert out.dtype == torch.float64
        out.sum().backward()


@pytest.mark.parametrize("scale", [1e-24, 1e18])
@pytest.mark.parametrize("width", [3, 600])
def test_very_small_and_very_large_gradients_keep_their_norms(scale, width):
    torch.manual_seed(4)
    model, x = nn.Linear(width, width), torch.randn(2, 3, width)
    with GradNorms(model).step(2) as one:
        model(x).tanh().sum().backward()
    with GradNorms(model).step(2) as scaled:
        (model(x).tanh().sum() * scale).backward()
    torch.testing.assert_close(
        scaled.per_trajectory(), scale * one.per_trajectory(), rtol=1e-4, atol=0
    )


def test_a_shared_layer_whose_input_is_overwritten_is_told():
    model, x = nn.Linear(3, 3), torch.randn(2, 4, 3)
    with GradNorms(model).step(2) as norms:
        (model(x).sum() + model(2 * x).sum()).backward()
        x.zero_()
    with pytest.raises(GradNormError, match="changed in place"):
        norms.per_trajectory()


def test_a_shared_layer_on_a_batch_of_padding_alone():
    model, x = nn.Linear(3, 3), torch.randn(2, 4, 3)
    layout = batch_rows(2, torch.zeros(2, 4))
    with GradNorms(model).step(layout) as norms:
        ((model(x).sum() + model(model(x)).sum()) * 0).backward()
    assert norms.per_trajectory().tolist() == [0.0, 0.0]


def test_a_layout_does_not_follow_the_tensor_it_was_made_of():
    model, ids = nn.Linear(3, 3), torch.tensor([0, 1, 1])
    layout, x = batch_rows(ids), torch.randn(3, 4, 3)
    ids.zero_()
    with GradNorms(model).step(layout) as norms:
        model(x).sum().backward()
    assert norms.per_trajectory().shape == (2,)


@pytest.mark.parametrize("part", [True, -1, [0, 1], 2.0])
def test_what_is_no_part_is_refused(part):
    with pytest.raises(GradNormError):
        GradNorms(nn.Linear(2, 2)).step(part)
