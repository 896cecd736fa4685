"""Unmodified models of the transformers library, built small from a configuration."""

import contextlib

import pytest
import torch
import transformers
from torch import Tensor, nn

from mmhealth.errors import UncoveredParameterError
from mmhealth.gradnorm import GradNorms, batch_rows

SMALL = {
    "vocab_size": 17,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
    "attention_dropout": 0.0,
}


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=17, n_positions=32, n_embd=16, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def causal(kind: str, **options) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(**SMALL, **options)
    return getattr(transformers, f"{kind}ForCausalLM")(config)


MODELS = {
    "gpt-2": gpt2,
    "llama": lambda: causal("Llama"),
    "llama, tied": lambda: causal("Llama", tie_word_embeddings=True),
    "qwen2": lambda: causal("Qwen2", tie_word_embeddings=True),
    "qwen3": lambda: causal("Qwen3", tie_word_embeddings=True),
    "gemma": lambda: causal("Gemma"),
    "mixtral": lambda: causal("Mixtral", num_local_experts=4),
}


SINGLE = ("gemma", "mixtral")
"""Models that compute in float32 whatever their weights are, or have no float64 kernel."""


def enable_checkpointing(model: nn.Module) -> None:
    """By the name that the installed version has for it."""
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_equals_one_backward_per_trajectory_or_is_refused(name, checkpointing, oracle):
    torch.manual_seed(0)
    single = name in SINGLE
    model = MODELS[name]() if single else MODELS[name]().double()
    lengths = [6, 3, 5]
    mask = torch.arange(6).flip(0) < torch.tensor(lengths)[:, None]  # padded on the left
    tokens = torch.randint(0, 17, mask.shape) * mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)

    def losses() -> Tensor:
        out = model(
            tokens, attention_mask=mask.long(), position_ids=positions, use_cache=False
        ).logits.log_softmax(-1)
        return -(out[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1) * mask[:, :-1]).sum(-1)

    expected = oracle(model.train(), lambda i: losses()[i], 3)
    if checkpointing:
        enable_checkpointing(model)
    refused = name == "mixtral"  # experts in one batched product
    with GradNorms(model).step(batch_rows(3, mask)) as norms, contextlib.ExitStack() as stack:
        if refused:
            stack.enter_context(pytest.raises(UncoveredParameterError, match="experts"))
        losses().sum().backward()
    if refused:
        return
    whole = torch.stack([v.square() for v in expected.values()]).sum(0).sqrt()
    rtol = 1e-5 if single else 1e-9
    torch.testing.assert_close(norms.per_trajectory(), whole.double(), rtol=rtol, atol=0)
