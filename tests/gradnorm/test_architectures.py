"""Owned norms against one backward pass per trajectory, architecture by architecture.

Each model maps tokens (rows, time) to outputs of which axis 0 is the row. Several are written as
well-known libraries write theirs, since what matters is which operations meet a parameter.
"""

import contextlib
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmhealth.errors import UncoveredParameterError
from mmhealth.gradnorm import GradNorms

VOCABULARY, WIDTH, ROWS, TIME = 13, 8, 4, 5


class Embedded(nn.Module):
    """Embedded tokens through a body."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.body = nn.Sequential(*body)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(self.table(tokens))


class Apply(nn.Module):
    """A function of parameters and input."""

    def __init__(self, function, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class First(nn.Module):
    """The first result of a recurrent module, time first or batch first."""

    def __init__(self, inner: nn.Module, *, turn: bool = False) -> None:
        super().__init__()
        self.inner, self.turn = inner, turn

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1))[0].transpose(0, 1) if self.turn else self.inner(x)[0]


class CellLoop(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


class Conv1D(nn.Module):
    """As GPT-2's: weight (in, out), flattened rows."""

    def __init__(self, out: int, features: int) -> None:
        super().__init__()
        self.out = out
        self.weight = nn.Parameter(torch.randn(features, out) * 0.3)
        self.bias = nn.Parameter(torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.size()[:-1], self.out)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class RootMeanSquare(nn.Module):
    """As Llama's (``one_plus``: as Gemma's)."""

    def __init__(self, width: int = WIDTH, *, one_plus: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.one_plus = one_plus

    def forward(self, x: Tensor) -> Tensor:
        normed = x.float() if x.dtype == torch.bfloat16 else x
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + 1e-6)
        if self.one_plus:
            return (normed * (1.0 + self.weight.to(x.dtype))).type_as(x)
        return self.weight * normed.to(x.dtype)


class GroupedAttention(nn.Module):
    """Grouped queries, rotary positions, norms of queries and keys, as Qwen3's."""

    def __init__(self, heads: int = 4, groups: int = 2) -> None:
        super().__init__()
        self.size, self.repeats = WIDTH // heads, heads // groups
        self.q_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k_proj = nn.Linear(WIDTH, groups * self.size)
        self.v_proj = nn.Linear(WIDTH, groups * self.size)
        self.o_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.q_norm, self.k_norm = RootMeanSquare(self.size), RootMeanSquare(self.size)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q = self.q_norm(self.q_proj(x).view(shape)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(shape)).transpose(1, 2)
        v = self.v_proj(x).view(shape).transpose(1, 2)
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / torch.arange(1, self.size + 1)
        q, k = (t * angle.cos() + t.roll(self.size // 2, -1) * angle.sin() for t in (q, k))
        k, v = (t[:, :, None].expand(-1, -1, self.repeats, -1, -1).reshape(q.shape) for t in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.o_proj(mixed.transpose(1, 2).reshape(x.shape))


class FusedAttention(nn.Module):
    """One projection to queries, keys and values, taken apart as vision transformers do."""

    def __init__(self, projection: nn.Module, out: nn.Module, heads: int = 2) -> None:
        super().__init__()
        self.projection, self.out, self.heads = projection, out, heads

    def forward(self, x: Tensor) -> Tensor:
        rows, time, width = x.shape
        parts = self.projection(x).reshape(rows, time, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        return x + self.out((scores @ v).transpose(1, 2).reshape(rows, time, width))


class Experts(nn.Module):
    """Two of three experts a token; ``stacked`` weights are one parameter, as in newer models."""

    def __init__(self, *, stacked: bool) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 3, bias=False)
        self.stacked = stacked
        if stacked:
            self.up = nn.Parameter(torch.randn(3, WIDTH, 6))
            self.down = nn.Parameter(torch.randn(3, WIDTH, 6))
        else:
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(WIDTH, 6), nn.SiLU(), nn.Linear(6, WIDTH)) for _ in range(3)
            )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(-1, x.shape[-1])
        weight, chosen = self.router(flat).softmax(-1).topk(2, -1)
        result = torch.zeros_like(flat)
        for e in range(3):
            rank, token = torch.where(chosen.t() == e)
            state = flat[None, token].reshape(-1, x.shape[-1])
            if self.stacked:
                state = functional.linear(functional.silu(state @ self.up[e]), self.down[e])
            else:
                state = self.experts[e](state)
            result.index_add_(0, token, state * weight[token, rank, None])
        return x + result.view(x.shape)


class SortedExperts(nn.Module):
    """Tokens sorted by expert, split, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        choice = (flat[:, 0] > 0).long()
        order = choice.argsort(stable=True)
        parts = flat[order].split(choice.bincount(minlength=2).tolist())
        done = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        return torch.tanh(done[order.argsort()]).view(x.shape)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter, as peft writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.lora_a = nn.Linear(WIDTH, 2, bias=False)
        self.lora_b = nn.Linear(2, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_b(self.lora_a(x)) * 0.5


class Positions(nn.Module):
    """Learned positions, added in the ways that libraries do."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        if how == "parameter":
            self.positions = nn.Parameter(torch.randn(1, TIME, WIDTH))
        else:
            self.positions = nn.Embedding(TIME, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x, at = self.tokens(tokens), torch.arange(tokens.shape[1])
        if self.how == "parameter":
            return self.head(torch.tanh(x + self.positions))
        index = {"flat": at, "one row": at[None], "all rows": at.expand(len(tokens), -1)}[self.how]
        return self.head(torch.tanh(x + self.positions(index)))


class PositionNetwork(nn.Module):
    """Positions through a network of their own, the same for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(1, 6), nn.SiLU(), nn.Linear(6, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / x.shape[1]
        return x + self.inner(at.expand(len(x), -1, -1) if len(x) != x.shape[1] else at)


class Turned(nn.Module):
    """A layer over time: gradients arrive transposed."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class TimeStack(nn.Module):
    """States stacked time first, read out, then turned."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(WIDTH, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros(len(x), 5, dtype=x.dtype), []
        for step in x.unbind(1):
            state = self.cell(step, state)
            states.append(state)
        return self.out(torch.stack(states)).transpose(0, 1)


class Tiled(nn.Module):
    """Rows repeated as a block, as for several candidates, and read out flat."""

    def __init__(self, copies: int = TIME) -> None:
        super().__init__()
        self.copies, self.out = copies, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        tiled = self.out(torch.tanh(x.sum(1)).repeat(self.copies, 1))
        return tiled.view(self.copies, len(x), 3).transpose(0, 1)


class Shared(nn.Module):
    """One layer applied three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + torch.tanh(self.layer(self.norm(x)))
        return x


class TiedHead(nn.Module):
    """Logits from the embedding's own table."""

    def __init__(self, *, by_hand: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.table.weight
        self.by_hand, self.twice = by_hand, twice

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        if self.twice:
            x = x + self.table(tokens.flip(1))
        x = torch.tanh(self.inner(x))
        return x @ self.table.weight.t() if self.by_hand else self.head(x)


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, 2, 12, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, torch.tanh(x[:, :3]) * 2)


def class_token(module: nn.Module, x: Tensor) -> Tensor:
    joined = torch.cat([module.token.expand(len(x), -1, -1), x], 1)
    return functional.linear(torch.tanh(joined[:, 0]), module.head)


def encoder_layer(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 12, dropout=0.0, **options)


class TimeFirst(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


ARCHITECTURES = {
    "mlp": lambda: Embedded(nn.Linear(WIDTH, 9), nn.GELU(), nn.Linear(9, 3, bias=False)),
    "bag of tokens": lambda: Embedded(
        Apply(lambda m, x: torch.tanh(x.mean(1) @ m.w), w=(WIDTH, 6)), nn.Linear(6, 2)
    ),
    "layer norm": lambda: Embedded(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)),
    "layer norm without bias": lambda: Embedded(nn.LayerNorm(WIDTH, bias=False)),
    "layer norm over two axes": lambda: Embedded(nn.LayerNorm((TIME, WIDTH))),
    "rms norm of torch": lambda: Embedded(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 3)),
    "rms norm of llama": lambda: Embedded(RootMeanSquare(), nn.Linear(WIDTH, 3)),
    "rms norm of gemma": lambda: Embedded(RootMeanSquare(one_plus=True), nn.Linear(WIDTH, 3)),
    "group norm": lambda: Embedded(nn.GroupNorm(1, TIME), nn.Linear(WIDTH, 3)),
    "layer scale and shift": lambda: Embedded(
        Apply(lambda m, x: x - m.shift + m.scale * x.tanh(), scale=(WIDTH,), shift=(1, 1, WIDTH))
    ),
    "temperature": lambda: Embedded(Apply(lambda m, x: x / m.t, t=()), nn.Linear(WIDTH, 3)),
    "in place": lambda: Embedded(
        Apply(lambda m, x: (2 * x).add_(m.b).sub_(m.a), a=(WIDTH,), b=(TIME, WIDTH))
    ),
    "gru": lambda: Embedded(First(nn.GRU(WIDTH, 6, batch_first=True)), nn.Linear(6, 3)),
    "gru, two layers, time first": lambda: Embedded(
        First(nn.GRU(WIDTH, 5, num_layers=2), turn=True), nn.Linear(5, 3)
    ),
    "lstm, both directions": lambda: Embedded(
        First(nn.LSTM(WIDTH, 5, num_layers=2, bidirectional=True, batch_first=True)),
        nn.Linear(10, 3),
    ),
    "rnn without bias": lambda: Embedded(First(nn.RNN(WIDTH, 5, bias=False, batch_first=True))),
    "gru cell in a loop": lambda: Embedded(CellLoop(nn.GRUCell(WIDTH, 5))),
    "lstm cell in a loop": lambda: Embedded(CellLoop(nn.LSTMCell(WIDTH, 5))),
    "encoder": lambda: Embedded(encoder_layer(batch_first=True), nn.Linear(WIDTH, 3)),
    "encoder, norm first": lambda: Embedded(encoder_layer(batch_first=True, norm_first=True)),
    "encoder, time first": lambda: Embedded(TimeFirst(encoder_layer()), nn.Linear(WIDTH, 3)),
    "cross attention": lambda: Embedded(CrossAttention()),
    "gpt-2 block": lambda: Embedded(
        nn.LayerNorm(WIDTH), FusedAttention(Conv1D(3 * WIDTH, WIDTH), Conv1D(WIDTH, WIDTH))
    ),
    "vision block": lambda: Embedded(
        FusedAttention(nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH))
    ),
    "qwen3 attention": lambda: Embedded(RootMeanSquare(), GroupedAttention()),
    "class token": lambda: Embedded(Apply(class_token, token=(1, 1, WIDTH), head=(3, WIDTH))),
    "experts": lambda: Embedded(Experts(stacked=False), nn.Linear(WIDTH, 3)),
    "stacked experts": lambda: Embedded(Experts(stacked=True), nn.Linear(WIDTH, 3)),
    "sorted experts": lambda: Embedded(SortedExperts(), nn.Linear(WIDTH, 3)),
    "adapter": lambda: Embedded(Adapted(), nn.Tanh(), Adapted()),
    "position network": lambda: Embedded(PositionNetwork(), nn.Linear(WIDTH, 3)),
    "states stacked time first": lambda: Embedded(TimeStack()),
    "channels first": lambda: Embedded(
        nn.LayerNorm(WIDTH), Turned(nn.Linear(TIME, TIME)), nn.LayerNorm(WIDTH), Turned(nn.Tanh())
    ),
    "rows tiled": lambda: Embedded(Tiled()),
    "shared layer": lambda: Embedded(Shared(), nn.Linear(WIDTH, 3)),
    "tied head": TiedHead,
    "tied head by hand": lambda: TiedHead(by_hand=True),
    "tied head, two lookups": lambda: TiedHead(twice=True),
    "positions, parameter": lambda: Positions("parameter"),
    "positions, flat": lambda: Positions("flat"),
    "positions, one row": lambda: Positions("one row"),
    "positions, all rows": lambda: Positions("all rows"),
}


def prepared(name: str, dtype: torch.dtype, rows: int = ROWS) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(len(name))
    return ARCHITECTURES[name]().to(dtype), torch.randint(0, VOCABULARY, (rows, TIME))


def terms(model: nn.Module, tokens: Tensor) -> Tensor:
    """(rows,) losses that weigh every output differently."""
    out = torch.tanh(model(tokens)).flatten(1)
    return (out * torch.linspace(-1, 2, out.shape[1], dtype=out.dtype)).sum(1) / ROWS


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_one_backward_per_trajectory(name, dtype, tolerance, oracle):
    model, tokens = prepared(name, dtype)
    with GradNorms(model).step(ROWS) as norms:
        terms(model, tokens).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model, tokens = prepared(name, torch.float64)
    expected = oracle(model, lambda i: terms(model, tokens[i : i + 1]).sum(), ROWS)
    whole = torch.stack([v.square() for v in expected.values()]).sum(0).sqrt()
    torch.testing.assert_close(norms.per_trajectory(), whole, rtol=tolerance, atol=0)
    for parameter, measured in norms.by_parameter().items():
        torch.testing.assert_close(
            measured, expected[parameter], rtol=tolerance, atol=tolerance * float(whole.max())
        )
    terms(model, tokens).sum().backward()
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for parameter, plain in model.named_parameters():
        if parameter in gradients:
            torch.testing.assert_close(
                gradients[parameter].double(),
                plain.grad,
                rtol=tolerance,
                atol=tolerance * largest,
            )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_alignment_is_the_cosine_with_the_sum_of_all_gradients(name):
    model, tokens = prepared(name, torch.float64)
    with GradNorms(model, alignment=True).step(ROWS) as norms:
        terms(model, tokens).sum().backward()
    gradients = []
    for i in range(ROWS):
        model.zero_grad()
        terms(model, tokens[i : i + 1]).sum().backward()
        every = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        gradients.append(torch.cat([g.flatten() for g in every]))
    each = torch.stack(gradients)
    whole = each.sum(0)
    cosines = (each @ whole) / (each.norm(dim=1) * whole.norm())
    torch.testing.assert_close(norms.alignment(), cosines, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(norms.per_trajectory(), each.norm(dim=1), rtol=1e-10, atol=0)
    total = (norms.per_trajectory() * norms.alignment()).sum()
    torch.testing.assert_close(total, whole.norm(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_leaves_nothing_behind(name):
    model, tokens = prepared(name, torch.float64)
    before = terms(model, tokens)
    with GradNorms(model).step(ROWS):
        during = terms(model, tokens)
        during.sum().backward()
    torch.testing.assert_close(during, before, rtol=1e-12, atol=1e-12)
    assert not any(p._backward_hooks for p in model.parameters())
    model.zero_grad()
    after = terms(model, tokens)
    after.sum().backward()
    assert torch.equal(after, before)


@pytest.mark.parametrize("rows", [1, 2, 3, TIME, 2 * TIME])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes_that_coincide_are_right_or_refused(name, rows, oracle):
    """As many rows as time steps, heads, experts or parts of a fused projection."""
    model, tokens = prepared(name, torch.float64, rows)
    expected = oracle(model, lambda i: terms(model, tokens[i : i + 1]).sum(), rows)
    whole = torch.stack([v.square() for v in expected.values()]).sum(0).sqrt()
    with GradNorms(model).step(rows) as norms, contextlib.ExitStack() as stack:
        refused = name in ("positions, flat", "position network") and rows == TIME
        if refused:
            match = r"positions\.weight|body\.0\.inner\.\d\.weight"
            stack.enter_context(pytest.raises(UncoveredParameterError, match=match))
        terms(model, tokens).sum().backward()
    if not refused:
        torch.testing.assert_close(norms.per_trajectory(), whole, rtol=1e-10, atol=1e-14)
