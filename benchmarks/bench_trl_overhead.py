"""What attaching costs a training run of TRL: with and without it, in blocks.

    python benchmarks/bench_trl_overhead.py                     # both models: writes the page
    python benchmarks/bench_trl_overhead.py --model tiny        # prints, writes nothing

All arms of a block train the same model from the same seed, so they sample and update alike to the
bit; their order changes from block to block. CPU time of one thread, which others on the machine
disturb less than they do the clock. SmolLM2 is that of examples/trl_grpo_smollm2.py, and needs what
that needs. Writes docs/benchmarks/trl_overhead.md.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from datasets import Dataset
from tables import bootstrap_interval, machine, markdown_table, write_table
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import GRPOConfig, GRPOTrainer

from mmhealth.integrations.trl import attach

Make = Callable[[str], Any]
ARMS = ("plain", "control", "without norms", "with norms")
STEPS = {"tiny": 4, "smollm2": 1}
WORDS = ["<pad>", "<eos>", *(f"w{i}" for i in range(2046))]


def tiny(folder: str) -> Any:
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
        reward_funcs=lambda completions, **_: [
            float(len(set(text.split()))) for text in completions
        ],
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            num_generations=8,
            max_completion_length=64,
            max_steps=STEPS["tiny"],
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


def smollm2(folder: str) -> Any:
    example, model, tokenizer = _example()
    return example.trainer(copy.deepcopy(model), tokenizer, STEPS["smollm2"], folder)


@cache
def _example() -> tuple[Any, Any, Any]:
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    import trl_grpo_smollm2

    return trl_grpo_smollm2, *trl_grpo_smollm2.loaded(trl_grpo_smollm2.packaged())


def seconds(make: Make, arm: str) -> float:
    """Of ``train()``; ``attach`` itself, with its one test of the meter, is not in it."""
    with tempfile.TemporaryDirectory() as folder:
        made = make(folder)
        if arm.endswith("norms"):
            attach(made, Path(folder) / "run", norms=arm == "with norms")
        start = time.process_time()
        made.train()
        return time.process_time() - start


def measure(name: str, blocks: int) -> list[list[str]]:
    """Ratios of each arm to the plain one of its block."""
    make = {"tiny": tiny, "smollm2": smollm2}[name]
    seconds(make, "with norms")
    found = []
    for block in range(blocks):
        turn = block % len(ARMS)
        order = (ARMS[turn:] + ARMS[:turn])[:: -1 if block % 2 else 1]
        found.append({arm: seconds(make, arm) for arm in order})
        print(name, {arm: round(took, 2) for arm, took in found[-1].items()}, flush=True)
    plain = statistics.median(times["plain"] for times in found) / STEPS[name]
    rows = []
    for arm in ARMS[1:]:
        ratios = [times[arm] / times["plain"] for times in found]
        low, high = bootstrap_interval(ratios)
        ratio, interval = statistics.median(ratios), f"{low:.3f} to {high:.3f}"
        rows.append([name, arm, str(blocks), f"{ratio:.3f}", interval, f"{plain * 1e3:.0f}"])
    return rows


ABOUT = (
    "GRPOTrainer, whole calls of train(), one thread. tiny: Qwen2 of 4 layers x 256 with a tied "
    f"head of {len(WORDS)} words, 16 rollouts of 64 tokens a step, {STEPS['tiny']} steps. smollm2: "
    "SmolLM2-135M as in `examples/trl_grpo_smollm2.py`, 32 rollouts of 12 tokens a step, "
    f"{STEPS['smollm2']} step of two updates. Blocks of all arms in changing order; median ratio "
    "of CPU times to the plain arm of the block, with its 95 % bootstrap interval; the control is "
    "a second plain arm."
)

if __name__ == "__main__":
    given = argparse.ArgumentParser()
    given.add_argument("--model", choices=STEPS)
    given.add_argument("--blocks", type=int, default=12)
    asked = given.parse_args()
    torch.set_num_threads(1)
    header = ["model", "arm", "blocks", "median ratio", "95 % interval", "plain ms a step"]
    rows = [
        row for name in STEPS if asked.model in (None, name) for row in measure(name, asked.blocks)
    ]
    if asked.model:
        print(markdown_table(header, rows))
    else:
        title = "What attaching to a TRL trainer costs"
        write_table("trl_overhead", title, f"{ABOUT} {machine()}", header, rows)
