"""The workloads: decoders on dense, padded and packed rows, a GRU, a Hugging Face model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradnorms.decoder import Decoder
from gradnorms.workload import Args, Bars, Call, Part, Workload
from mmhealth.gradnorm import batch_rows, packed

Make = Callable[[], Workload]
"""Makes a workload: those that are not asked for take no memory."""
VOCAB = 1024
SKETCH = Bars(time=1.08, flops=1.03, memory=1.02)


def policy_gradient(logits: Tensor, actions: Tensor, credit: Tensor) -> Tensor:
    """(rows,) of -sum_t A_i log pi(a_t) / N; ``credit`` (rows, time) is A_i / N, 0 on padding."""
    chosen = logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return -(chosen * credit).sum(1)


def decoder_terms(
    call: Call, tokens: Tensor, positions: Tensor, actions: Tensor, credit: Tensor
) -> Tensor:
    return policy_gradient(call(tokens, positions), actions, credit)


def dense(name: str, rows: int, time: int, width: int = 256, depth: int = 4) -> Workload:
    """Rows of one length."""
    args = _batch([time] * rows, VOCAB)
    about = f"decoder {depth} x {width}, {rows} x {time} tokens"
    return Workload(
        name,
        about,
        _decoder(width, depth, time),
        [Part(args, torch.arange(rows))],
        decoder_terms,
        lambda i: _row(args, i),
        {"": lambda: [batch_rows(rows)]},
        {"": Bars(1.07, 1.001, 1.02, stretch=1.02), "sketch": SKETCH},
    )


def padded(name: str, lengths: Sequence[int]) -> Workload:
    """Ragged trajectories, one a row, padded to the longest."""
    args = _batch(lengths, VOCAB)
    rows, longest = len(lengths), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Workload(
        name,
        f"{rows} trajectories of {min(lengths)} to {longest} tokens, padded",
        _decoder(256, 4, longest),
        [Part(args, torch.arange(rows))],
        decoder_terms,
        lambda i: _row(args, i, lengths[i]),
        {
            "": lambda: [batch_rows(rows)],
            "padding skipped": lambda: [batch_rows(rows, mask)],
        },
        {
            "": Bars(1.07, 1.001, 1.02, stretch=1.02),
            "padding skipped": Bars(0.90, 0.78, 1.02, stretch=0.75),
            "sketch": SKETCH,
        },
    )


def packed_row(name: str, lengths: Sequence[int]) -> Workload:
    """The same trajectories one after another in one row; attention stays within each."""
    args = _batch(lengths, VOCAB)
    rows = [_row(args, i, length) for i, length in enumerate(lengths)]
    joined = tuple(torch.cat(parts, 1) for parts in zip(*rows, strict=True))
    bounds = torch.tensor([0, *lengths]).cumsum(0)

    def terms(
        call: Call, tokens: Tensor, positions: Tensor, actions: Tensor, credit: Tensor
    ) -> Tensor:
        segments = lengths if tokens.shape[1] == sum(lengths) else None
        return policy_gradient(call(tokens, positions, segments), actions, credit)

    return Workload(
        name,
        f"the same {len(lengths)} trajectories packed in one row",
        _decoder(256, 4, max(lengths)),
        [Part(joined, torch.arange(len(lengths)))],
        terms,
        lambda i: rows[i],
        {"": lambda: [packed(bounds)]},
        {"": Bars(1.08, 1.001, 1.02, stretch=1.02), "sketch": SKETCH},
        packed=True,
    )


class Recurrent(nn.Module):
    """A GRU and a linear head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, time, width) twice."""
        logits: Tensor = self.head(self.gru(x)[0])
        return logits


def gru(rows: int, time: int) -> Workload:
    """GRU-64 on dense rows."""
    generator = _seeded()
    x = torch.randn(rows, time, 64, generator=generator)
    actions = torch.randint(64, (rows, time), generator=generator)
    args = (x, actions, _credit([time] * rows, generator))
    return Workload(
        "gru",
        f"GRU-64, {rows} x {time} steps",
        Recurrent(64),
        [Part(args, torch.arange(rows))],
        lambda call, x, actions, credit: policy_gradient(call(x), actions, credit),
        lambda i: _row(args, i),
        {"": lambda: [batch_rows(rows)]},
        {"": Bars(time=1.00)},
    )


def rank_one(rows: int) -> Workload:
    """One linear map of one token a trajectory: gradients of rank 1, the worst case of a sketch.

    Its inputs are the larger side, which is projected, and spread over all directions.
    """
    generator = _seeded()
    x = torch.randn(rows, 1, 512, generator=generator)
    args = (x, torch.randint(256, (rows, 1), generator=generator), _credit([1] * rows, generator))
    torch.manual_seed(0)
    return Workload(
        "rank 1",
        f"one linear map, {rows} x 1 tokens",
        nn.Linear(512, 256, bias=False),
        [Part(args, torch.arange(rows))],
        lambda call, x, actions, credit: policy_gradient(call(x), actions, credit),
        lambda i: _row(args, i),
        {"": lambda: [batch_rows(rows)]},
    )


def qwen2(rows: int, time: int, depth: int = 8) -> Workload:
    """`transformers.Qwen2ForCausalLM` as it is: grouped queries, RMSNorm, tied head."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=depth,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=max(512, time),
        tie_word_embeddings=True,
        use_cache=False,
    )
    tokens, _, actions, credit = args = _batch([time] * rows, 32_000)
    args = (tokens, actions, credit)

    def terms(call: Call, tokens: Tensor, actions: Tensor, credit: Tensor) -> Tensor:
        return policy_gradient(call(input_ids=tokens).logits, actions, credit)

    torch.manual_seed(0)
    return Workload(
        "qwen2",
        f"Qwen2 {depth} x 512, 8 heads on 2, vocabulary 32,000, tied head, {rows} x {time} tokens, "
        "Hugging Face module",
        Qwen2ForCausalLM(config),
        [Part(args, torch.arange(rows))],
        terms,
        lambda i: _row(args, i),
        {"": lambda: [batch_rows(rows)]},
        {"": Bars(1.08, 1.001, 1.05)},
        effort=0.3,
    )


def ragged(trajectories: int, shortest: int, longest: int) -> list[int]:
    """Lengths in equal ratios: most are short, as in agents' batches."""
    ratio = longest / shortest
    steps = range(trajectories)
    return [round(shortest * ratio ** (i / (trajectories - 1))) for i in steps]


def core(quick: bool) -> dict[str, Make]:
    """Workloads by name, made when called."""
    lengths = ragged(16, 10, 100) if quick else ragged(16, 25, 500)
    small: dict[str, Any] = {"rows": 8, "time": 32} if quick else {"rows": 32, "time": 128}
    return {
        "a": lambda: dense("a", **small),
        "b": lambda: padded("b", lengths),
        "c": lambda: packed_row("c", lengths),
        "gru": lambda: gru(**small),
        "qwen2": lambda: qwen2(2, 32, depth=2) if quick else qwen2(8, 512),
    }


def _decoder(width: int, depth: int, longest: int) -> Decoder:
    torch.manual_seed(0)
    return Decoder(width, depth, VOCAB, longest)


def _batch(lengths: Sequence[int], vocab: int) -> Args:
    generator, shape = _seeded(), (len(lengths), max(lengths))
    tokens = torch.randint(vocab, shape, generator=generator)
    actions = torch.randint(vocab, shape, generator=generator)
    positions = torch.arange(shape[1]).expand(shape).contiguous()
    return tokens, positions, actions, _credit(lengths, generator)


def _credit(lengths: Sequence[int], generator: torch.Generator) -> Tensor:
    advantage = torch.randn(len(lengths), 1, generator=generator) / len(lengths)
    return advantage * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def _row(args: Args, row: int, length: int | None = None) -> Args:
    return tuple(a[row : row + 1, :length] for a in args)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
