"""Owned norms for every way to lay trajectories out in a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms, batch_rows, packed, segment_ids

VOCABULARY, WIDTH = 7, 4


class Decoder(nn.Module):
    """One block with a tied head; attends only within a trajectory."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.fused = nn.Linear(WIDTH, 3 * WIDTH)
        self.gain = nn.Parameter(torch.randn(WIDTH))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.table.weight
        self.double()

    def forward(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """(rows, time) tokens and their trajectories, -1 on padding, to log-probabilities."""
        x = self.table(tokens)
        q, k, v = self.fused(self.norm(x)).chunk(3, -1)
        time = tokens.shape[1]
        seen = (ids[:, :, None] == ids[:, None]) & torch.ones(time, time).tril().bool()
        x = x + functional.scaled_dot_product_attention(q, k, v, seen) * self.gain
        return self.head(x).log_softmax(-1)


def losses(model: Decoder, tokens: Tensor, ids: Tensor) -> Tensor:
    """(rows, time) loss of each token, 0 on padding."""
    chosen = model(tokens, ids).gather(-1, (3 * tokens % VOCABULARY)[..., None]).squeeze(-1)
    return -(chosen * (1 + tokens) * (ids >= 0))


def expected(model: Decoder, oracle, sequences: list[list[Tensor]]) -> Tensor:
    """Norms of trajectories, each a list of sequences, run alone and without padding."""

    def term(i: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for sequence in sequences[i]:
            total = total + losses(model, sequence[None], torch.zeros(1, len(sequence))).sum()
        return total

    each = oracle(model, term, len(sequences))
    return torch.stack([norms.square() for norms in each.values()]).sum(0).sqrt()


def close(measured: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(measured, wanted, rtol=1e-10, atol=1e-12)


def drawn(lengths: list[int], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (n,), generator=generator) for n in lengths]


def padded(sequences: list[Tensor], *, left: bool) -> tuple[Tensor, Tensor]:
    """(rows, time) tokens and mask."""
    time = max(map(len, sequences))
    tokens, mask = torch.zeros(2, len(sequences), time, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        at = slice(time - len(sequence), None) if left else slice(None, len(sequence))
        tokens[row, at] = sequence
        mask[row, at] = 1
    return tokens, mask.bool()


lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@given(lengths, st.integers(0, 99), st.booleans(), st.sampled_from(["none", "mask", "segments"]))
@settings(max_examples=12, deadline=None)
def test_padded_rows(oracle, lengths, seed, left, given_as):
    model, sequences = Decoder(seed), drawn(lengths, seed)
    tokens, mask = padded(sequences, left=left)
    ids = torch.where(mask, torch.arange(len(lengths))[:, None], -1)
    layouts = {
        "none": len(lengths),
        "mask": batch_rows(len(lengths), mask),
        "segments": segment_ids(ids),
    }
    meter = GradNorms(model)
    with meter.step(layouts[given_as]) as norms:
        losses(model, tokens, ids)[mask].sum().backward()
    close(norms.per_trajectory(), expected(model, oracle, [[s] for s in sequences]))


@given(lengths, st.integers(0, 99), st.sampled_from(["cu_seqlens", "segments", "one axis"]))
@settings(max_examples=12, deadline=None)
def test_packed_rows(oracle, lengths, seed, given_as):
    model, sequences = Decoder(seed), drawn(lengths, seed)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    starts = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    layouts = {
        "cu_seqlens": packed(starts),
        "segments": segment_ids(ids[None]),
        "one axis": segment_ids(ids),
    }
    with GradNorms(model).step(layouts[given_as]) as norms:
        losses(model, torch.cat(sequences)[None], ids[None]).sum().backward()
    close(norms.per_trajectory(), expected(model, oracle, [[s] for s in sequences]))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_several_rows_of_a_trajectory_are_added_before_the_square(oracle, owner, seed):
    model, sequences = Decoder(seed), drawn([4] * len(owner), seed)
    with GradNorms(model).step(torch.tensor(owner)) as norms:
        losses(model, torch.stack(sequences), torch.zeros(len(owner), 4)).sum().backward()
    grouped = [[s for s, o in zip(sequences, owner, strict=True) if o == i] for i in range(4)]
    close(norms.per_trajectory(), expected(model, oracle, grouped[: max(owner) + 1]))


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_parts_of_a_trajectory_are_added_before_the_square(oracle, owners, seed):
    model = Decoder(seed)
    parts = [torch.stack(drawn([3] * len(owner), seed + k)) for k, owner in enumerate(owners)]
    with GradNorms(model).step(*map(torch.tensor, owners)) as norms:
        for k, tokens in enumerate(parts):
            if len(parts) > 1:
                norms.part(k)
            losses(model, tokens, torch.zeros(tokens.shape)).sum().backward()
    count = 1 + max(max(owner) for owner in owners)
    grouped = [
        [s for tokens, owner in zip(parts, owners, strict=True)
         for s, o in zip(tokens, owner, strict=True) if o == i]
        for i in range(count)
    ]  # fmt: skip
    close(norms.per_trajectory(), expected(model, oracle, grouped))


def test_packed_segments_of_one_trajectory(oracle):
    model = Decoder()
    tokens = torch.randint(0, VOCABULARY, (1, 9))
    segment = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    with GradNorms(model).step(packed([0, 3, 5, 9], torch.tensor([1, 0, 1]))) as norms:
        losses(model, tokens, segment[None]).sum().backward()
    owner = torch.tensor([1, 0, 1])[segment]
    each = oracle(model, lambda i: losses(model, tokens, segment[None])[0, owner == i].sum(), 2)
    close(norms.per_trajectory(), torch.stack([v.square() for v in each.values()]).sum(0).sqrt())


def test_padding_that_carries_a_gradient_counts_to_its_row_or_is_refused():
    layer = nn.Linear(3, 2).double()
    x, mask = torch.randn(2, 4, 3).double(), torch.ones(2, 4).bool()
    mask[0, 2:] = False
    with GradNorms(layer).step(batch_rows(2, mask)) as norms:
        layer(x).sum().backward()
    with GradNorms(layer).step(2) as plain:
        layer(x).sum().backward()
    close(norms.per_trajectory(), plain.per_trajectory())
    ids = torch.where(mask, torch.arange(2)[:, None], -1)
    with GradNorms(layer).step(segment_ids(ids)) as refused:
        layer(x).sum().backward()
    with pytest.raises(GradNormError, match=r"padding .* has a gradient at (weight|bias)"):
        refused.per_trajectory()


def test_a_trajectory_that_the_loss_ignores_has_norm_0():
    layer = nn.Linear(3, 2)
    with GradNorms(layer).step(torch.tensor([0, 2])) as norms:
        layer(torch.ones(2, 3))[0].sum().backward()
    first, absent, ignored = norms.per_trajectory().tolist()
    assert first > 0
    assert absent == ignored == 0


def test_unpadding_inside_the_model_is_followed(oracle):
    class Unpadded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = nn.Embedding(VOCABULARY, 4), nn.Linear(4, 3)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            kept = torch.tanh(self.layer(self.table(tokens)[mask]))
            return torch.zeros(*mask.shape, 3, dtype=kept.dtype).masked_scatter(
                mask[..., None], kept
            )

    model = Unpadded().double()
    tokens, mask = padded(drawn([3, 5, 2], 1), left=True)
    with GradNorms(model).step(3) as norms:
        model(tokens, mask).square().sum().backward()
    each = oracle(model, lambda i: model(tokens[[i]], mask[[i]]).square().sum(), 3)
    close(norms.per_trajectory(), torch.stack([v.square() for v in each.values()]).sum(0).sqrt())


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (lambda: segment_ids(torch.tensor([0, -2])), "numbered from 0"),
        (lambda: segment_ids(torch.tensor([0.5])), "whole numbers"),
        (lambda: packed([1, 3]), "cu_seqlens"),
        (lambda: packed([0, 3, 2]), "cu_seqlens"),
        (lambda: packed([0, 3], torch.tensor([0, 1])), "1 packed segments"),
        (lambda: batch_rows(2, torch.ones(3, 4)), "mask"),
        (lambda: batch_rows(torch.tensor([True])), "whole numbers"),
        (lambda: batch_rows(torch.tensor([[0]])), "rows"),
    ],
)
def test_refuses_a_layout_that_is_none(layout, message):
    with pytest.raises(GradNormError, match=message):
        layout()


@pytest.mark.parametrize("layout", [3, segment_ids(torch.zeros(2, 5, dtype=torch.long))])
def test_names_a_layer_whose_input_does_not_fit(layout):
    layer = nn.Linear(3, 2)
    step = GradNorms(layer).step(layout)
    with pytest.raises(GradNormError, match=r"weight \(input with leading axes \(2, 4\)"), step:
        layer(torch.ones(2, 4, 3))
