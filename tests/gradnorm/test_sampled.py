"""Some layers, some trajectories, some steps: what is measured is exact, what stands for the rest
is unbiased, and what is not known is no number.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError, UncoveredParameterError
from mmhealth.estimators import gini
from mmhealth.gradnorm import GradNorms, Sampled, batch_rows, packed

WIDTH, ROWS, TIME = 6, 7, 4


class Tower(nn.Module):
    """Blocks of one kind between layers that are alone, with a tied head."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(9, WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 9)
        self.head.weight = self.table.weight
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        """(rows, time) losses."""
        x = self.table(tokens)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return -self.head(self.norm(x)).log_softmax(-1)[..., 0] * (1 + tokens)


def tokens(rows: int = ROWS) -> Tensor:
    return torch.randint(0, 9, (rows, TIME), generator=torch.Generator().manual_seed(0))


def measured(model: nn.Module, mode: Sampled | None, x: Tensor, layout=None):
    with GradNorms(model, mode).step(len(x) if layout is None else layout) as norms:
        model(x).sum().backward()
    return norms


def test_layers_drawn_are_exact_and_the_others_are_not_touched():
    model, plain, x = Tower(), Tower(), tokens()
    exact = measured(model, None, x).by_module()
    model.zero_grad()
    drawn = measured(model, Sampled(layers=0.5, seed=1), x).by_module()
    plain(x).sum().backward()
    blocks = {name for name in drawn if name.startswith("blocks")}
    assert len(blocks) == 3
    assert drawn.keys() - blocks == {"table", "norm", "head"}
    for name, norms in drawn.items():
        torch.testing.assert_close(norms, exact[name], rtol=1e-10, atol=0)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-13)
        if name.startswith("blocks") and name.rpartition(".")[0] not in blocks:
            assert torch.equal(ours.grad, theirs.grad)


def test_weighted_squares_are_unbiased_and_their_error_too():
    """Over all seeds: the mean of the squares, and of their squared standard errors."""
    model, x, seeds = Tower(8), tokens(), 400
    exact = measured(model, None, x).per_trajectory()
    steps = [measured(model, Sampled(layers=0.5, seed=seed), x) for seed in range(seeds)]
    squares = torch.stack([norms.per_trajectory().square() for norms in steps])
    z = (squares.mean(0) - exact.square()) / (squares.std(0) / math.sqrt(seeds))
    assert z.abs().max() < 3.5
    errors = torch.stack([2 * n.per_trajectory() * n.standard_error() for n in steps])
    ratio = errors.square().mean(0) / squares.var(0)
    assert ratio.sub(1).abs().max() < 0.15
    truth = gini(exact.numpy())
    ends = [norms.error_of(gini).interval() for norms in steps]
    assert 0.9 < np.mean([low <= truth <= high for low, high in ends]) < 0.99


def test_the_error_over_layers_is_that_of_leaving_each_out():
    model, x = Tower(5), tokens()
    norms = measured(model, Sampled(layers=0.6, seed=2), x)
    modules = {name: n.square().numpy() for name, n in norms.by_module().items()}
    blocks = [square for name, square in modules.items() if name.startswith("blocks")]
    rest = sum(square for name, square in modules.items() if not name.startswith("blocks"))
    assert len(blocks) == 3
    whole = gini(np.sqrt(rest + 5 * np.mean(blocks, axis=0)))
    values = []
    for left_out in range(3):
        others = [square for k, square in enumerate(blocks) if k != left_out]
        values.append(gini(np.sqrt(rest + 5 * np.mean(others, axis=0))))
    error = norms.error_of(gini)
    assert error.value == pytest.approx(whole, rel=1e-10)
    variance = (1 - 3 / 5) * 2 / 3 * sum((value - np.mean(values)) ** 2 for value in values)
    assert error.standard_error == pytest.approx(math.sqrt(variance), rel=1e-8)
    assert error.freedom == pytest.approx(2)


def test_layers_that_work_together_are_drawn_together():
    """Attention with its output layer, a recurrent module, whatever shares a parameter."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Linear(WIDTH, WIDTH)
            self.attention = nn.ModuleList(nn.MultiheadAttention(WIDTH, 2) for _ in range(3))
            self.recurrent = nn.ModuleList(nn.GRU(WIDTH, WIDTH) for _ in range(3))
            self.pairs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(6))
            for k in range(0, 6, 2):
                self.pairs[k].weight = self.pairs[k + 1].weight

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).transpose(0, 1)
            for attention, recurrent in zip(self.attention, self.recurrent, strict=True):
                x = recurrent(attention(x, x, x)[0])[0]
            for layer in self.pairs:
                x = torch.tanh(layer(x))
            return x.transpose(0, 1).square().sum((1, 2))

    model, x = Mixed(), torch.randn(4, 3, WIDTH)
    for seed in range(8):
        found = measured(model, Sampled(layers=0.5, seed=seed), x).by_module()
        attention, recurrent, pairs = (
            {name for name in found if name.startswith(kind)}
            for kind in ("attention", "recurrent", "pairs")
        )
        assert len(attention) == 4  # two, each with its output layer
        assert len(recurrent) == 2
        first = {int(name.rpartition(".")[2]) // 2 for name in pairs}
        assert len(first) == 2
        assert pairs == {f"pairs.{2 * k + one}" for k in first for one in (0, 1)}


def test_never_fewer_than_two_layers_of_a_kind_and_all_if_asked():
    few = measured(Tower(3), Sampled(layers=0.01), tokens()).by_module()
    assert sum(name.startswith("blocks") for name in few) == 2
    every = measured(Tower(), Sampled(layers=1.0), tokens())
    torch.testing.assert_close(
        every.per_trajectory(),
        measured(Tower(), None, tokens()).per_trajectory(),
        rtol=1e-12,
        atol=0,
    )
    assert not every.standard_error().any()


@pytest.mark.parametrize("layout", ["rows", "several rows", "masked", "packed", "parts"])
def test_trajectories_drawn_are_exact_and_the_others_are_not_known(layout):
    mode, x = Sampled(trajectories=3, seed=4), tokens(12)
    owner = torch.tensor([0, 1, 2, 3, 4, 5, 5, 6, 7, 0, 8, 1])
    mask = torch.arange(TIME) < torch.randint(1, TIME + 1, (12, 1))
    row = torch.arange(12)
    parts = {
        "rows": [(12, x, torch.ones_like(mask), row)],
        "several rows": [(owner, x, torch.ones_like(mask), owner)],
        "masked": [(batch_rows(12, mask), x, mask, row)],
        "packed": [(packed(range(0, 49, 4)), x.view(1, -1), torch.ones(1, 48), row)],
        "parts": [
            (owner[:7], x[:7], torch.ones(7, TIME), owner[:7]),
            (owner[7:], x[7:], torch.ones(5, TIME), owner[7:]),
        ],
    }[layout]
    found = []
    for given in (None, mode):
        model = Tower()
        with GradNorms(model, given).step(*(part[0] for part in parts)) as norms:
            for k, (_, some, weight, _) in enumerate(parts):
                if len(parts) > 1:
                    norms.part(k)
                (model(some) * weight).sum().backward()
        found.append((norms, [p.grad for p in model.parameters()]))
    (exact, plain), (norms, ours) = found
    known = norms.per_trajectory().isfinite()
    assert known.sum() == 3
    assert norms.per_trajectory()[~known].isnan().all()
    torch.testing.assert_close(
        norms.per_trajectory()[known], exact.per_trajectory()[known], rtol=1e-10, atol=0
    )
    for name, one in norms.by_module().items():
        assert torch.equal(one.isfinite(), known), name
    assert torch.equal(norms.standard_error().isfinite(), known)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_the_error_over_trajectories_is_that_of_leaving_each_out():
    model, x = Tower(), tokens(20)
    scale = torch.arange(1, 21)
    norms = measured(model, Sampled(trajectories=8), x)
    known = norms.per_trajectory(scale)
    known = known[known.isfinite()].numpy()
    values = [gini(np.delete(known, k)) for k in range(8)]
    error = norms.error_of(gini, scale)
    assert error.value == pytest.approx(gini(known), rel=1e-12)
    variance = (1 - 8 / 20) * 7 / 8 * sum((value - np.mean(values)) ** 2 for value in values)
    assert error.standard_error == pytest.approx(math.sqrt(variance), rel=1e-10)
    assert error.bias == pytest.approx((1 - 8 / 20) * 7 * (np.mean(values) - gini(known)))


def test_intervals_over_trajectories_cover():
    model, x = Tower(), tokens(40)
    truth = gini(measured(model, None, x).per_trajectory().numpy())
    inside = []
    for seed in range(200):
        norms = measured(model, Sampled(trajectories=12, seed=seed), x)
        low, high = norms.error_of(gini).interval(0.9)
        inside.append(low <= truth <= high)
    assert 0.85 < np.mean(inside) < 0.97


def test_more_trajectories_than_there_are_is_all_of_them():
    norms = measured(Tower(), Sampled(trajectories=99), tokens())
    exact = measured(Tower(), None, tokens())
    torch.testing.assert_close(norms.per_trajectory(), exact.per_trajectory(), rtol=1e-12, atol=0)
    assert norms.error_of(gini).standard_error == 0


def test_every_nth_step_is_measured_and_the_others_say_so():
    model, x = Tower(), tokens()
    meter = GradNorms(model, Sampled(every=3))
    flags = []
    for _ in range(5):
        model.zero_grad()
        with meter.step(2, 5) as norms:
            for k, part in enumerate(x.split([2, 5])):
                norms.part(k)
                model(part).sum().backward()
        flags.append(norms.measured)
        if norms.measured:
            assert norms.per_trajectory().shape == (5,)
            assert norms.error_of(gini).standard_error == 0
    assert flags == [True, False, False, True, False]
    readings = [
        norms.per_trajectory,
        norms.by_module,
        norms.by_parameter,
        norms.uncovered,
        norms.standard_error,
        lambda: norms.error_of(gini),
    ]
    for read in readings:
        with pytest.raises(GradNormError, match=r"every=3.*norms\.measured"):
            read()


def test_a_step_that_is_passed_is_not_intercepted():
    """Its gradients are plain ones to the bit, in a model that could not be measured at all."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)), torch.randn(5, WIDTH)
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    meter = GradNorms(model.eval(), Sampled(every=2))
    with meter.step(5):
        model(x).square().sum().backward()
    model.train().zero_grad()
    with meter.step(5) as norms:
        model(x).pow(3).sum().backward()
    assert norms.verify(torch.zeros(5)) == []
    ours = model[0].weight.grad.clone()
    model.zero_grad()
    model(x).pow(3).sum().backward()
    assert torch.equal(ours, model[0].weight.grad)
    with pytest.raises(GradNormError, match="normalises over the batch"):
        meter.step(5)


def test_every_combines_with_layers_and_with_trajectories():
    model, x = Tower(), tokens()
    for mode in (Sampled(layers=0.5, every=2), Sampled(trajectories=3, every=2)):
        meter = GradNorms(model, mode)
        flags = []
        for _ in range(3):
            with meter.step(ROWS) as norms:
                model(x).sum().backward()
            flags.append(norms.measured)
        assert flags == [True, False, True]
        assert norms.error_of(gini).standard_error > 0


@pytest.mark.parametrize("mode", [Sampled(layers=0.5), Sampled(trajectories=3)])
def test_checks_stay_on(mode):
    model, x = Tower(), tokens()
    with GradNorms(model, mode).step(ROWS) as norms:
        terms = model(x).sum(1)
        chosen = norms.verify(terms, 2)
        terms.sum().backward()
    assert norms.per_trajectory()[chosen].isfinite().all()
    with GradNorms(model, mode).step(ROWS) as wrong:
        terms = model(x).sum(1)
        wrong.verify(1.01 * terms)
        terms.sum().backward()
    with pytest.raises(GradNormError, match="by a backward pass of its own"):
        wrong.per_trajectory()
    handle = model.norm.weight.register_hook(lambda gradient: 2 * gradient)
    with GradNorms(model, mode).step(ROWS) as changed:
        model(x).sum().backward()
    handle.remove()
    with pytest.raises(UncoveredParameterError, match=r"norm\.weight .*do not add up"):
        changed.per_trajectory()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": 0.0}, "layers=0"),
        ({"layers": 1.5}, "layers=1"),
        ({"trajectories": 2}, "trajectories=2"),
        ({"every": 0}, "every=0"),
        ({"layers": 0.5, "trajectories": 4}, "not both"),
    ],
)
def test_refuses_samples_that_are_none(given, message):
    with pytest.raises(GradNormError, match=message):
        Sampled(**given)
