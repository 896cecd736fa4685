"""A tiny Qwen2, a tokenizer and a dataset made here, and trainers over them: nothing is fetched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["<pad>", "<eos>", *"abcdefghijklmnopqrst"]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def model(*, tied: bool = False) -> transformers.Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.Qwen2ForCausalLM(config)


def early(completions: list[str], **_: Any) -> list[float]:
    """The share of a completion's words from the first half of the alphabet."""
    parts = [text.split() for text in completions]
    return [sum(w < "k" for w in words) / max(len(words), 1) for words in parts]


def short(completions: list[str], **_: Any) -> list[float | None]:
    """1 for fewer than 6 words; nothing is known of an empty one."""
    sizes = [len(text.split()) for text in completions]
    return [float(size < 6) if size else None for size in sizes]


def make(kind: str, folder: Path, *, tied: bool = False, **options: Any) -> Any:
    """A ``GRPO`` or ``RLOO`` trainer of 4 prompts and 4 rollouts of each, as ``options`` say."""
    own = ("eval_dataset", "peft_config", "rollout_func")
    more = {name: options.pop(name) for name in own if name in options}
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "beta": 0.0,
        "seed": 1,
    } | options
    prompts = [{"prompt": text, "source": text[0]} for text in ("a b c", "d e", "f", "g h i j")]
    return getattr(trl, f"{kind}Trainer")(
        model=model(tied=tied),
        reward_funcs=[early, short],
        args=getattr(trl, f"{kind}Config")(**arguments),
        train_dataset=Dataset.from_list(prompts * 4),
        processing_class=tokenizer(),
        **more,
    )


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Any]:
    """``trainer("GRPO", **options)`` makes one."""
    return lambda kind, **options: make(kind, tmp_path / "out", **options)
