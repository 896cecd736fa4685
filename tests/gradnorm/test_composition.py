"""Owned norms together with what trainers do: checkpointing, low precision, accumulation."""

import contextlib
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms, own_token_mean, row_mean, token_mean

ROWS, TIME, WIDTH, VOCABULARY = 5, 4, 8, 9


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Model(nn.Module):
    """Two blocks under checkpoints of a kind, with a tied head; ``same``: one block twice."""

    def __init__(self, kind: str = "none", *, same: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        first = Block()
        self.blocks = nn.ModuleList([first, first if same else Block()])
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """(rows, time) tokens to (rows,) losses."""
        run = {
            "none": lambda block, x: block(x),
            "reentrant": functools.partial(checkpoint, use_reentrant=True),
            "not reentrant": functools.partial(checkpoint, use_reentrant=False),
        }[self.kind]
        x = self.table(tokens)
        for block in self.blocks:
            x = run(block, x)
        return -self.head(x).log_softmax(-1)[..., 0].sum(-1) * torch.arange(1, len(tokens) + 1)


def tokens(seed: int = 1) -> Tensor:
    return torch.randint(0, VOCABULARY, (ROWS, TIME), generator=torch.Generator().manual_seed(seed))


def total(norms: dict[str, Tensor]) -> Tensor:
    return torch.stack([v.square() for v in norms.values()]).sum(0).sqrt()


def looped(model: Model, batch: Tensor, oracle) -> Tensor:
    return total(oracle(model, lambda i: model(batch)[i], len(batch)))


@pytest.mark.parametrize("kind", ["reentrant", "not reentrant"])
def test_checkpointing_changes_no_norm_and_no_gradient(kind, oracle):
    model, plain = Model(kind).double(), Model().double()
    with GradNorms(model).step(ROWS) as norms:
        model(tokens()).sum().backward()
    torch.testing.assert_close(
        norms.per_trajectory(), looped(plain, tokens(), oracle), rtol=1e-10, atol=0
    )
    plain(tokens()).sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_a_layer_shared_by_checkpointed_regions(oracle):
    expected = looped(Model(same=True).double(), tokens(), oracle)
    model = Model("not reentrant", same=True).double()
    with GradNorms(model).step(ROWS) as norms:
        model(tokens()).sum().backward()
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=0)
    model = Model("reentrant", same=True).double()
    with GradNorms(model).step(ROWS) as norms:
        model(tokens()).sum().backward()
    with pytest.raises(GradNormError, match=r"blocks\.0\.\S+ was used again .* shared="):
        norms.per_trajectory()
    model.zero_grad()
    with GradNorms(model, shared=["blocks.*"]).step(ROWS) as norms:
        model(tokens()).sum().backward()
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ["none", "not reentrant"])
def test_a_backward_after_the_context_gives_no_norm(kind):
    model = Model(kind)
    with GradNorms(model).step(ROWS) as norms:
        loss = model(tokens()).sum()
    if kind == "none":
        loss.backward()
    with pytest.raises(GradNormError, match="open through backward"):
        norms.per_trajectory()


def test_two_backward_passes_over_one_graph_are_added_or_refused(oracle):
    model = Model().double()
    for shared in ([], ["*"]):
        with GradNorms(model, shared=shared).step(ROWS) as norms:
            loss = model(tokens()).sum()
            (0.25 * loss).backward(retain_graph=True)
            (0.75 * loss).backward()
        if shared:
            expected = looped(model, tokens(), oracle)
            torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-10, atol=0)
        else:
            with pytest.raises(GradNormError, match="second backward"):
                norms.per_trajectory()


def test_accumulated_micro_batches(oracle):
    model = Model().double()
    batches = [tokens(1), tokens(2)]
    owners = [torch.arange(ROWS), torch.arange(ROWS, 2 * ROWS)]
    with GradNorms(model).step(*owners) as norms:
        for k, batch in enumerate(batches):
            norms.part(k)
            (model(batch).sum() / 2).backward()
    expected = torch.cat([looped(model, batch, oracle) for batch in batches])
    torch.testing.assert_close(norms.per_trajectory(scale=0.5), expected, rtol=1e-10, atol=0)


def test_refuses_parts_out_of_order_and_trajectories_that_do_not_fit_in_memory():
    model = Model()
    with pytest.raises(GradNormError, match="memory_limit"):
        GradNorms(model, memory_limit=1000).step(ROWS, ROWS)
    step = GradNorms(model).step(torch.arange(5), torch.arange(5, 10))
    with pytest.raises(GradNormError, match=r"part\(1\)"), step:
        step.part(1)
    with pytest.raises(GradNormError, match="at least one part"):
        GradNorms(model).step()


def test_a_backward_in_the_next_part_is_refused():
    model = Model()
    with GradNorms(model).step(torch.arange(5), torch.arange(5, 10)) as norms:
        norms.part(0)
        first = model(tokens()).sum()
        norms.part(1)
        (first + model(tokens()).sum()).backward()
    with pytest.raises(GradNormError, match="after its part"):
        norms.per_trajectory()


@pytest.mark.parametrize("kind", ["none", "reentrant", "not reentrant"])
@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
def test_autocast_is_measured_to_its_own_precision(kind, inside, oracle):
    model = Model(kind)
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    with GradNorms(model).step(ROWS) as norms:
        with autocast():
            loss = model(tokens()).float().sum()
        with autocast() if inside else contextlib.nullcontext():
            loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]

    def term(i: int) -> Tensor:
        with autocast():
            return model(tokens())[i].float()

    expected = total(oracle(model, term, ROWS))
    torch.testing.assert_close(norms.per_trajectory(), expected, rtol=1e-2, atol=0)
    with autocast():
        loss = model(tokens()).float().sum()
    loss.backward()
    for ours, parameter in zip(gradients, model.parameters(), strict=True):
        assert (ours - parameter.grad).norm() < 1e-2 * parameter.grad.norm()


def test_a_model_in_low_precision():
    model, exact = Model().bfloat16(), Model()
    with GradNorms(model).step(ROWS) as norms:
        model(tokens()).sum().backward()
    with GradNorms(exact).step(ROWS) as wanted:
        exact(tokens()).sum().backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in model.parameters())
    torch.testing.assert_close(norms.per_trajectory(), wanted.per_trajectory(), rtol=5e-2, atol=0)


def test_scales_are_divided_out():
    model = Model().double()

    def measured(factor: float | Tensor, scale: float | Tensor) -> Tensor:
        with GradNorms(model).step(ROWS) as norms:
            (model(tokens()) * factor).sum().backward()
        return norms.per_trajectory(scale)

    plain = measured(1.0, 1.0)
    lengths = torch.full((ROWS,), TIME)
    own = own_token_mean(lengths)
    for factor, scale in [
        (65536.0, 65536.0),
        (1 / ROWS, row_mean(ROWS)),
        (1 / (ROWS * TIME), token_mean(ROWS * TIME)),
    ]:
        torch.testing.assert_close(measured(factor, scale), plain)
    torch.testing.assert_close(measured(1 / (ROWS * TIME), own), plain / TIME)


def test_compiled_and_uninitialised_models_are_refused_by_name():
    compiled = torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager")
    with pytest.raises(GradNormError, match=r"compiled: torch\.compile"):
        GradNorms(compiled)
    inner = nn.Sequential(nn.Linear(2, 2))
    inner[0].compile(backend="eager")
    with pytest.raises(GradNormError, match="0 is compiled"):
        GradNorms(inner)
    lazy = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(GradNormError, match=r"0\.weight is a UninitializedParameter"):
        GradNorms(lazy)


def test_a_compiled_function_runs_uncompiled():
    layer = nn.Linear(3, 3).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    function = torch.compile(lambda rows: torch.tanh(layer(rows)), backend="eager")
    function(x).sum().backward()
    meter = GradNorms(layer)
    with meter.step(2) as plain:
        torch.tanh(layer(x)).sum().backward()
    with meter.step(2) as norms:
        function(x).sum().backward()
    torch.testing.assert_close(norms.per_trajectory(), plain.per_trajectory())
