"""What attaching costs a training run of TRL: with and without it, in pairs.

Both arms train the same model from the same seed, so they sample and update alike to the bit; the
order within a pair alternates. Writes docs/benchmarks/trl_overhead.md. Needs trl.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from datasets import Dataset
from tables import bootstrap_interval, machine, write_table
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import GRPOConfig, GRPOTrainer

from mmhealth.integrations.trl import attach

PAIRS, STEPS = 10, 4
WORDS = ["<pad>", "<eos>", *(f"w{i}" for i in range(2046))]


def trainer(folder: str) -> Any:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    config = transformers.Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return GRPOTrainer(
        model=transformers.Qwen2ForCausalLM(config),
        reward_funcs=lambda completions, **_: [float(len(set(text))) for text in completions],
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            num_generations=8,
            max_completion_length=64,
            max_steps=STEPS,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            seed=1,
        ),
        train_dataset=Dataset.from_list([{"prompt": f"w{i} w{2 * i} w{3 * i}"} for i in range(64)]),
        processing_class=transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", padding_side="left"
        ),
    )


def seconds(how: str) -> float:
    """Of ``train()``; ``attach`` itself, with its one test of the meter, is not in it."""
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder)
        if how != "plain":
            attach(made, Path(folder) / "run", norms=how == "with norms")
        start = time.perf_counter()
        made.train()
        return time.perf_counter() - start


def measure(how: str, pairs: int) -> list[str]:
    """Ratios of attached to plain runs; ``plain`` compares plain with plain."""
    ratios, plain_seconds = [], []
    for pair in range(pairs):
        times = {}
        for position in (0, 1) if pair % 2 else (1, 0):
            times[position] = seconds(how if position else "plain")
        ratios.append(times[1] / times[0])
        plain_seconds.append(times[0])
    low, high = bootstrap_interval(ratios)
    plain = statistics.median(plain_seconds) / STEPS
    name = "control: plain / plain" if how == "plain" else f"{how} / plain"
    ratio, interval = statistics.median(ratios), f"{low:.3f} to {high:.3f}"
    return [name, str(pairs), f"{ratio:.3f}", interval, f"{plain * 1e3:.0f}"]


if __name__ == "__main__":
    pairs = int(os.environ.get("PAIRS", PAIRS))
    seconds("with norms")
    write_table(
        "trl_overhead",
        "What attaching to a TRL trainer costs",
        f"GRPOTrainer, Qwen2 of 4 layers x 256 with a tied head of {len(WORDS)} words, 16 rollouts "
        f"a step, whole calls of train() with {STEPS} steps, in pairs of alternating order; median "
        f"ratio with its 95 % bootstrap interval. {machine()}",
        ["arms", "pairs", "median ratio", "95 % interval", "plain ms a step"],
        [measure(how, pairs) for how in ("plain", "without norms", "with norms")],
    )
