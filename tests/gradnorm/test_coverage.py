"""What has no rule is named, what cannot be trusted is refused, what is asked for is verified."""

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from mmhealth.errors import GradNormError, UncoveredParameterError
from mmhealth.gradnorm import GradNorms
from mmhealth.gradnorm.products import matmul


class Free(nn.Module):
    """A linear layer, then a function of a parameter and the input."""

    def __init__(self, function, *shape: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.free = nn.Parameter(torch.randn(shape))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(torch.tanh(self.first(x)), self.free)


class Custom(torch.autograd.Function):
    """A product that no interception sees, such as a fused kernel."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


WITHOUT_RULE = {
    "einsum": Free(lambda x, w: torch.einsum("bi,ij->bj", x, w), 4, 4),
    "parameter on the left": Free(lambda x, w: (w @ x.t()).t(), 4, 4),
    "nonlinear before use": Free(lambda x, w: x * w.exp(), 4),
    "scaled before use": Free(lambda x, w: x * (2 * w), 4),
    "two parameters first": Free(lambda x, w: x * (w * w), 4),
    "over the rows": Free(lambda x, w: x + w, 3, 4),
    "batched product": Free(lambda x, w: torch.bmm(x[None].expand(2, -1, -1), w), 2, 4, 4),
    "indexed by token": Free(lambda x, w: (x[:, None] @ w[torch.tensor([0, 1, 1])])[:, 0], 2, 4, 4),
    "penalty": Free(lambda x, w: x.sum() + w.square().sum(), 4),
    "custom function": Free(Custom.apply, 4, 4),
}


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_later_leaves_the_forward_pass_alone_and_names_it_when_a_norm_is_read(name):
    model = WITHOUT_RULE[name]
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    with GradNorms(model, on_uncovered="later").step(3) as norms:
        model(x).sum().backward()
    with pytest.raises(UncoveredParameterError, match=r"\bfree \("):
        norms.per_trajectory()


def test_a_function_of_one_s_own_may_have_a_rule():
    def product(x: Tensor, weight: Tensor) -> Tensor:
        if has_torch_function((x, weight)):
            return handle_torch_function(product, (x, weight), x, weight)
        return Custom.apply(x, weight)

    x = torch.randn(3, 4)
    norms = measure(Free(product, 4, 4), x, rules={product: matmul})
    expected = measure(Free(torch.matmul, 4, 4), x)
    torch.testing.assert_close(norms.per_trajectory(), expected.per_trajectory())


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_a_use_without_a_rule_is_named(name):
    model = WITHOUT_RULE[name]
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    with pytest.raises(UncoveredParameterError, match=r"\bfree \("):
        measure(model, x).per_trajectory()


def measure(model: nn.Module, x: Tensor, **options):
    try:
        with GradNorms(model, **options).step(len(x)) as norms:
            model(x).sum().backward()
    except UncoveredParameterError:
        raise
    except GradNormError as refusal:
        raise AssertionError("a refusal must name the parameter") from refusal
    return norms


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_the_rest_is_measured_on_report(name):
    model = WITHOUT_RULE[name]
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    try:
        norms = measure(model, x, on_uncovered="report")
        measured = norms.per_trajectory()
    except UncoveredParameterError as refusal:
        pytest.fail(str(refusal))
    gradients = {n: p.grad.double().norm().square() for n, p in model.named_parameters()}
    share = float(gradients["free"] / sum(gradients.values()))
    assert norms.uncovered() == pytest.approx({"free": share}, rel=1e-5)
    if name in ("over the rows", "penalty", "indexed by token"):
        return
    for i, row in enumerate(x):
        model.zero_grad()
        model(row[None]).sum().backward()
        squares = [p.grad.double().norm() ** 2 for p in model.first.parameters()]
        assert float(measured[i]) == pytest.approx(float(sum(squares)) ** 0.5, rel=1e-5)


def test_modules_known_to_have_no_rule_are_named_when_the_meter_is_built():
    model = nn.Sequential(nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3), nn.Linear(4, 4))
    with pytest.raises(UncoveredParameterError) as caught:
        GradNorms(model)
    assert all(f"{k}.{n} (" in str(caught.value) for k in (0, 1) for n in ("weight", "bias"))
    assert "2.weight" not in str(caught.value)
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    meter = GradNorms(model.eval())
    meter.step(2)
    model[0].requires_grad_(True)
    with pytest.raises(UncoveredParameterError, match=r"0\.weight \(Conv1d\)"):
        meter.step(2)


def test_normalising_over_the_batch_is_refused_though_frozen():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3).requires_grad_(False))
    meter, x = GradNorms(model), torch.randn(5, 4)
    with pytest.raises(GradNormError, match="1 normalises over the batch"):
        meter.step(5)
    model.eval()
    with meter.step(5) as norms:
        model(x).square().sum().backward()
    for row, norm in zip(x, norms.per_trajectory().tolist(), strict=True):
        model.zero_grad()
        model(row[None]).square().sum().backward()
        square = sum(float(p.grad.square().sum()) for p in model[0].parameters())
        assert norm == pytest.approx(square**0.5, rel=1e-5)


@pytest.mark.parametrize(
    "options", [{"sparse": True}, {"max_norm": 1.0}, {"scale_grad_by_freq": True}]
)
def test_embeddings_that_change_their_gradient_are_named(options):
    model = nn.Sequential(nn.Embedding(5, 4, **options))
    with pytest.raises(UncoveredParameterError, match=r"0\.weight"):
        measure(model, torch.tensor([[1, 2]]))


def test_a_bucket_table_broadcast_over_trajectories_is_named():
    class Relative(nn.Module):
        """Attention biases by distance, one table for all rows, as T5's."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = nn.Embedding(8, 2), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            time = torch.arange(x.shape[1])
            bias = self.table((time[:, None] - time) % 8).permute(2, 0, 1).unsqueeze(0)
            heads = self.layer(x).view(*x.shape[:2], 2, 2).transpose(1, 2)
            return (heads @ heads.transpose(-2, -1) + bias).softmax(-1) @ heads

    for rows, time in [(3, 5), (4, 4)]:
        with pytest.raises(UncoveredParameterError, match=r"table\.weight"):
            measure(Relative(), torch.randn(rows, time, 4))


@pytest.mark.parametrize(
    "shared",
    [
        lambda x, p: x + p.expand(x.shape[1], -1),
        lambda x, p: x + torch.arange(1.0, x.shape[1] + 1)[:, None] * p,
        lambda x, p: x * nn.functional.layer_norm(torch.eye(x.shape[1], 4), (4,), p),
        lambda x, p: x - torch.linspace(0, 1, x.shape[1])[:, None] @ p[None],
    ],
)
def test_what_looks_like_rows_and_serves_all_rows_is_named(shared):
    for rows in (3, 5):
        model = Free(shared, 4)
        with pytest.raises(UncoveredParameterError, match=r"\bfree \("):
            measure(model, torch.randn(rows, 3, 4))


def test_reordered_rows_are_right_or_named_in_a_recurrent_network():
    torch.manual_seed(7)
    inner = nn.GRU(4, 3, batch_first=True, bidirectional=True)
    model, x = nn.ModuleList([nn.Linear(4, 4), inner]), torch.randn(4, 2, 4)
    order = torch.tensor([2, 0, 3, 1])
    step = GradNorms(model).step(4)
    with pytest.raises(UncoveredParameterError, match=r"1\.weight_ih_l0"), step:
        inner(model[0](x)[order])


def test_frozen_parameters_and_passes_without_gradient_do_not_count():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    tokens = torch.randint(0, 5, (3, 2))
    with GradNorms(model).step(3) as norms:
        with torch.no_grad():
            model(torch.randint(0, 5, (7, 3)))
        model(tokens).sum().backward()
    names = {"0.weight", "1.weight", "1.bias", "3.weight", "3.bias"}
    assert norms.by_parameter().keys() == names
    assert norms.by_module().keys() == {"0", "1", "3"}
    squares = torch.stack([v.square() for v in norms.by_module().values()]).sum(0)
    torch.testing.assert_close(squares.sqrt(), norms.per_trajectory())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_verify_passes_where_norms_are_right(checkpointed):
    torch.manual_seed(4)
    inner = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6))
    head = nn.Linear(6, 3)
    model = nn.ModuleList([inner, head])
    x = torch.randn(5, 2, 4)
    with GradNorms(model).step(5) as norms:
        if checkpointed:
            hidden = torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=False)
        else:
            hidden = inner(x)
        terms = head(hidden).square().sum((1, 2)) / 5
        assert len(norms.verify(terms, 3)) == 3
        terms.sum().backward()
    checked = norms.per_trajectory()
    with GradNorms(model).step(5) as plain:
        (head(inner(x)).square().sum((1, 2)) / 5).sum().backward()
    torch.testing.assert_close(checked, plain.per_trajectory())


def test_verify_catches_a_loss_that_couples_trajectories_and_a_wrong_scale():
    torch.manual_seed(5)
    model, x = nn.Linear(4, 4), torch.randn(5, 4)
    for coupled in (True, False):
        with GradNorms(model).step(5) as norms:
            out = model(x)
            terms = out.square().sum(1)
            terms = terms * out.square().sum() if coupled else terms
            norms.verify(terms, 2)
            (terms.sum() if coupled else terms.mean()).backward()
        with pytest.raises(GradNormError, match="by a backward pass of its own"):
            norms.per_trajectory()


def test_verify_catches_rows_charged_to_the_wrong_trajectory():
    model, x = nn.Linear(4, 4), torch.randn(6, 4, generator=torch.Generator().manual_seed(6))
    with GradNorms(model).step(torch.tensor([0, 1, 2, 0, 1, 2])) as norms:
        terms = model(x).square().sum(1).view(3, 2).sum(1)
        norms.verify(terms, 3)
        terms.sum().backward()
    with pytest.raises(GradNormError, match="wrong trajectory"):
        norms.per_trajectory()


def test_refuses_to_read_what_was_not_measured():
    model = nn.Linear(2, 2)
    step = GradNorms(model).step(3)
    with pytest.raises(GradNormError, match="with statement"):
        step.per_trajectory()
    with pytest.raises(ZeroDivisionError), step:
        raise ZeroDivisionError
    with pytest.raises(GradNormError, match="ZeroDivisionError"):
        step.per_trajectory()
    assert not model.weight._backward_hooks
    with pytest.raises(GradNormError, match="on_uncovered"):
        GradNorms(model, on_uncovered="ignore")
    with GradNorms(model).step(3) as norms, pytest.raises(GradNormError, match="terms must be"):
        norms.verify(torch.ones(2, requires_grad=True))


def test_weights_that_are_computed_keep_their_gradient_and_are_named():
    class Generated(nn.Module):
        """A layer whose weight is computed from a trainable one."""

        def __init__(self) -> None:
            super().__init__()
            self.make, self.bias = nn.Linear(2, 12), nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.make(torch.ones(1, 2, dtype=x.dtype)).view(3, 4)
            return nn.functional.linear(x, weight, self.bias)

    model, x = Generated().double(), torch.randn(5, 4).double()
    model(x).sum().backward()
    plain = [p.grad for p in model.parameters()]
    model.zero_grad()
    norms = measure(model, x, on_uncovered="report")
    assert norms.uncovered().keys() == {"make.weight", "make.bias", "bias"}
    assert sum(norms.uncovered().values()) == pytest.approx(1)
    assert norms.per_trajectory().tolist() == [0.0] * 5
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_an_empty_batch_has_no_norms():
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    with GradNorms(model).step(0) as norms:
        model(torch.zeros(0, 6, dtype=torch.long)).square().sum().backward()
    assert norms.per_trajectory().shape == (0,)


def test_a_batch_of_padding_alone_has_norm_0():
    model = nn.Embedding(5, 4, padding_idx=0)
    with GradNorms(model).step(2) as norms:
        model(torch.zeros(2, 3, dtype=torch.long)).square().sum().backward()
    assert norms.per_trajectory().tolist() == [0.0, 0.0]
