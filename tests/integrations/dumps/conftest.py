"""Dumps as the trainers write them, field by field. Tests reach these functions as ``writers``."""

import json
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmhealth import open_run


@pytest.fixture(scope="session")
def writers() -> ModuleType:
    """This module."""
    return sys.modules[__name__]


def rows_of_run(run_dir: Path) -> pl.DataFrame:
    """Trajectories beside their updates, as a reader sees them."""
    run = open_run(run_dir)
    rows = run.trajectories.drop("rank", "attempt")
    if run.updates.is_empty():
        return rows
    updates = run.updates.drop("rank", "attempt", "role")
    return rows.join(updates, on=["step", "trajectory_id"], how="left", maintain_order="left")


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder with its time of change and its bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """JSON Lines; NaN and infinities as Python writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def nemo_record(index: int, *, step: int = 1, size: int = 12, **changed: Any) -> dict[str, Any]:
    """One line of `Logger.log_batched_dict_as_jsonl`: every field a list of one element.

    Prompt of 4 tokens, 4 tokens of the policy, padding to ``size``.
    """
    rng = np.random.default_rng([step, index])
    mask = [0] * 4 + [1] * 4 + [0] * (size - 8)
    generation = np.where(mask, -rng.random(size), 0.0)
    prev = np.where(mask, generation + 0.1 * rng.normal(size=size), 0.0)
    reward = float(index % 2)
    record = {
        "content": ["text"],
        "rewards": [reward],
        "input_lengths": [8],
        "token_ids": [[100 + index // 2] * 4 + [7, 8, 9, index] + [0] * (size - 8)],
        "token_loss_mask": [mask],
        "sample_loss_mask": [1.0],
        "advantages": [[(reward - 0.5) * bit for bit in mask]],
        "generation_logprobs": [generation.tolist()],
        "prev_logprobs": [prev.tolist()],
        "idx": index,
    }
    return record | changed


def write_nemo(folder: Path, steps: Iterable[int], rows: int = 8) -> Path:
    """``train_data_step{N}.jsonl`` of several steps."""
    for step in steps:
        records = [nemo_record(index, step=step) for index in range(rows)]
        write_lines(folder / f"train_data_step{step}.jsonl", records)
    return folder


def write_verl(folder: Path, steps: Iterable[int], rows: int = 8) -> Path:
    """``{step}.jsonl`` of ``_write_generations``."""
    for step in steps:
        records = [
            {
                "input": f"prompt {i // 2}",
                "output": "answer",
                "gts": "42",
                "score": float(i % 2),
                "step": step,
                "acc": bool(i % 2),
                "pred": "41",
                "uid": f"{step}-{i // 2}",
            }
            for i in range(rows)
        ]
        write_lines(folder / f"{step}.jsonl", records)
    return folder


def tinker_record(index: int, iteration: int, **changed: Any) -> dict[str, Any]:
    """One record of `serialize_rollout_summaries`."""
    step = {"ob_len": 90, "ac_len": 30, "reward": 0.0, "metrics": {}, "logs": {}}
    record = {
        "schema_version": 1,
        "split": "train",
        "iteration": iteration,
        "group_idx": index // 2,
        "traj_idx": index % 2,
        "tags": ["math"],
        "sampling_client_step": max(0, iteration - 1),
        "total_reward": float(index % 2),
        "final_reward": float(index % 2),
        "trajectory_metrics": {},
        "steps": [
            step | {"step_idx": 0, "episode_done": False},
            step | {"step_idx": 1, "episode_done": True},
        ],
        "final_ob_len": 150,
    }
    return record | changed


def write_tinker(folder: Path, steps: Iterable[int], rows: int = 8) -> Path:
    """``iteration_{N:06d}/train_rollout_summaries.jsonl``."""
    for step in steps:
        records = [tinker_record(i, step) for i in range(rows)]
        write_lines(folder / f"iteration_{step:06d}" / "train_rollout_summaries.jsonl", records)
    return folder


def write_areal(folder: Path, steps: Iterable[int], tasks: int = 4) -> Path:
    """``{tail_version}/{task_id}.jsonl`` of ``_dump_trajectory``."""
    for step in steps:
        for task in range(tasks):
            records = [
                {
                    "task_id": step * tasks + task,
                    "sample_idx": i,
                    "seqlen": 50,
                    "prompt_len": 20,
                    "head_version": max(0, step - i),
                    "tail_version": step,
                    "reward": float(i),
                    "prompt": "p",
                    "completion": "c",
                }
                for i in range(2)
            ]
            write_lines(folder / str(step) / f"{step * tasks + task}.jsonl", records)
    return folder


def open_instruct_records(step: int, rows: int = 8) -> list[dict[str, Any]]:
    """The records of one step of ``save_rollouts_to_disk``."""
    return [
        {
            "step": step,
            "sample_idx": i,
            "prompt_idx": i // 2,
            "prompt_tokens": [1, 2, 3],
            "response_tokens": [4, 5, 6, 7],
            "reward": float(i % 2),
            "advantage": i % 2 - 0.5,
            "finish_reason": "stop",
            "dataset": "gsm8k",
            "ground_truth": "42",
            "request_info": {"num_calls": 1, "timeout": False},
            "logprobs": [-0.1, -0.2, -0.3, -0.4],
        }
        for i in range(rows)
    ]


def write_open_instruct(folder: Path, steps: Iterable[int], shard_steps: int = 3) -> Path:
    """``{run}_rollouts_{shard:06d}.jsonl``; a step may lie in two shards."""
    records = [record for step in steps for record in open_instruct_records(step)]
    size = shard_steps * 8 - 4
    for shard, start in enumerate(range(0, len(records), size)):
        part = records[start : start + size]
        write_lines(folder / f"run_rollouts_{shard:06d}.jsonl", part)
    return folder


def swift_record(step: int, rows: int = 8) -> dict[str, list[Any]]:
    """One line of ``completions.jsonl``."""
    return {
        "step": [str(step)] * rows,
        "prompt": [f"prompt {i // 2}" for i in range(rows)],
        "completion": ["answer"] * rows,
        "MathAccuracy": [float(i % 2) for i in range(rows)],
        "advantages": [i % 2 - 0.5 for i in range(rows)],
        "entropy": [0.5] * rows,
    }


def write_swift(folder: Path, steps: Iterable[int]) -> Path:
    """``completions.jsonl``."""
    write_lines(folder / "completions.jsonl", [swift_record(step) for step in steps])
    return folder


def rllm_episode(index: int, step: int, **changed: Any) -> dict[str, Any]:
    """One file of `EpisodeLogger.log_episode`."""
    turn = {"observation": "o", "thought": "t", "action": "a", "reward": 0.0, "done": False}
    episode = {
        "training_step": step,
        "epoch": 0,
        "episode_id": f"task{index // 2}:{index % 2}",
        "task": {"question": "q"},
        "task_hash": f"hash{index // 2}",
        "is_correct": bool(index % 2),
        "termination_reason": "env_done",
        "metrics": {},
        "trajectories": [
            {
                "name": "solver",
                "uid": f"uid{index}",
                "reward": float(index % 2),
                "num_steps": 2,
                "steps": [turn, turn],
            }
        ],
    }
    return episode | changed


def write_rllm(folder: Path, steps: Iterable[int], rows: int = 8) -> Path:
    """``train_step_{N}_epoch_{E}/episode_*.json``, and the summary beside them."""
    for step in steps:
        place = folder / f"train_step_{step}_epoch_0"
        place.mkdir(parents=True)
        for i in range(rows):
            name = f"episode_hashhash{i // 2}_idtask{i // 2}_{i % 2}.json"
            (place / name).write_text(json.dumps(rllm_episode(i, step), indent=2) + "\n")
        (place / "batch_summary.json").write_text("{}")
    return folder


def write_trl(folder: Path, steps: Iterable[int], *, reuse: int = 1, rows: int = 8) -> Path:
    """``completions_{step:05d}.parquet``; each batch is logged under ``reuse`` steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps):
        batch = number // reuse
        table = pl.DataFrame(
            {
                "step": [step] * rows,
                "prompt": [f"prompt {i // 2}" for i in range(rows)],
                "completion": [f"answer {batch} {i}" for i in range(rows)],
                "accuracy": [float(i % 2) for i in range(rows)],
                "advantage": [i % 2 - 0.5 for i in range(rows)],
            }
        )
        table.write_parquet(folder / f"completions_{step:05d}.parquet")
    return folder


def prime_export(index: int, step: int, **changed: Any) -> dict[str, Any]:
    """One record of `TokenExporter`."""
    rng = np.random.default_rng([step, index])
    mask = [False] * 4 + [True] * 4 + [False] * 2 + [True] * 2
    size = len(mask)
    inference = (-rng.random(size)).tolist()
    trainer = [value + 0.05 for value in inference]
    record: dict[str, Any] = {
        "schema_version": 1,
        "step": step,
        "rank": index % 2,
        "micro_step": 0,
        "micro_sequence_idx": 0,
        "export_sequence_idx": index // 2,
        "env_name": "math",
        "token_ids": prime_tokens(index, step),
        "position_ids": list(range(size)),
        "loss_mask": mask,
        "advantages": [index % 2 - 0.5] * size,
        "inference_logprobs": inference,
        "trainer_logprobs": trainer,
        "entropy": [0.4] * size,
        "mismatch_kl": [0.0] * size,
        "log_importance_ratio": [0.05] * size,
        "importance_ratio": [1.05] * size,
        "is_masked": [False] * size,
    }
    return record | changed


def prime_tokens(index: int, step: int) -> list[int]:
    """The tokens of a sequence; they name it."""
    return [step, index // 2, 0, 1, 5, 6, 7, index, 9, 9, 3, 4]


def prime_episode(index: int, step: int) -> dict[str, Any]:
    """One line of ``traces.jsonl``."""
    tokens = prime_tokens(index, step)
    return {
        "id": f"e{index}",
        "env": "math",
        "task": {},
        "group": {"id": f"g{index // 2}"},
        "traces": [
            {
                "nodes": [
                    {"token_ids": tokens[:4], "mask": [False] * 4},
                    {"token_ids": tokens[4:], "mask": [True] * 4 + [False] * 2 + [True] * 2},
                ],
                "rewards": {
                    "correct": {"score": float(index % 2), "weight": 1.0},
                    "format": {"score": 1.0, "weight": 0.5},
                },
            }
        ],
    }


def write_prime(folder: Path, steps: Iterable[int], rows: int = 8, *, ranks: int = 2) -> Path:
    """``token_exports/step_N`` with STABLE, and the orchestrator's traces."""
    for step in steps:
        place = folder / "token_exports" / f"step_{step}"
        for rank in range(ranks):
            mine = [prime_export(i, step) for i in range(rows) if i % ranks == rank]
            write_lines(place / f"rank_{rank}.jsonl", mine)
        (place / "STABLE").touch()
        traces = folder / "rollouts" / f"step_{step}" / "train" / "effective" / "traces.jsonl"
        write_lines(traces, [prime_episode(i, step) for i in range(rows)])
    return folder


def slime_sample(index: int, step: int, **changed: Any) -> dict[str, Any]:
    """One of ``samples`` of ``_build_dump_payload``."""
    import torch

    rng = np.random.default_rng([step, index])
    sampler = torch.tensor(-rng.random(6), dtype=torch.float32)
    sample = {
        "data_parallel_rank": 0,
        "sample_index": index,
        "rollout_position": index,
        "tokens": torch.arange(10),
        "total_lengths": 10,
        "response_lengths": 6,
        "loss_masks": torch.tensor([1, 1, 0, 0, 1, 1]),
        "rewards": float(index % 2),
        "truncated": 0,
        "rollout_log_probs": sampler,
        "log_probs": sampler + 0.1,
        "advantages": torch.full((6,), index % 2 - 0.5),
        "returns": torch.zeros(6),
    }
    return sample | changed


def write_slime(folder: Path, steps: Iterable[int], rows: int = 8, version: int = 2) -> Path:
    """``train_data/{id}.pt`` and ``rollout_data/{id}.pt``."""
    import torch

    for name in ("train_data", "rollout_data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for step in steps:
        train = {
            "format_version": version,
            "rollout_id": step,
            "rank": 0,
            "samples": [slime_sample(i, step) for i in range(rows)],
            "dp_shards": [],
        }
        torch.save(train, folder / "train_data" / f"{step}.pt")
        rollout = {
            "rollout_id": step,
            "samples": [{"group_index": i // 2, "index": i} for i in range(rows)],
        }
        torch.save(rollout, folder / "rollout_data" / f"{step}.pt")
    return folder


def skyrl_batch(step: int, rows: int = 8) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The arrays of a ``TrainingInputBatch``: prompts of 3 tokens, responses of 4, to the right."""
    rng = np.random.default_rng(step)
    prompts = np.repeat(np.arange(rows // 2), 2)[:, None] + np.zeros((rows, 3))
    responses = rng.integers(10, 20, (rows, 4))
    sampler = -rng.random((rows, 4)).astype(np.float32)
    reward = np.arange(rows) % 2 - 0.5
    padding = np.zeros((rows, 1))
    return {
        "sequences": np.hstack([padding, prompts, responses]).astype(np.int64),
        "attention_mask": np.hstack([padding, np.ones((rows, 7))]).astype(np.int64),
        "response_mask": np.ones((rows, 4), np.int64),
        "loss_mask": np.tile([1, 1, 1, 0], (rows, 1)).astype(np.int64),
        "action_log_probs": sampler + np.float32(0.1),
        "rollout_logprobs": sampler,
        "advantages": np.repeat(reward[:, None], 4, 1).astype(np.float32),
    }


def write_skyrl(folder: Path, steps: Iterable[int], rows: int = 8) -> Path:
    """``global_step_{N}_training_input.pkl`` as ``TensorBatch.__reduce__`` pickles it."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        state = {
            "batch_dict": {
                name: {
                    "format": "numpy",
                    "data": array.tobytes(),
                    "shape": array.shape,
                    "dtype": str(array.dtype),
                }
                for name, array in skyrl_batch(step, rows).items()
            }
            | {"values": None},
            "batch_size": rows,
            "device": None,
            "metadata": {"global_step": step, "response_length": 4},
        }
        path = folder / f"global_step_{step}_training_input.pkl"
        path.write_bytes(reduced("skyrl.backends.skyrl_train.training_batch", state))
    return folder


def reduced(module: str, state: Any) -> bytes:
    """The pickle that ``TensorBatch.__reduce__`` makes: a function, its class, a state."""
    names = ModuleType(module)

    def _rebuild_tensor_batch(cls: type, state: Any) -> None:
        raise AssertionError("the trainer's own code must not run")

    class TrainingInputBatch:
        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild_tensor_batch, (TrainingInputBatch, state)

    for item in (_rebuild_tensor_batch, TrainingInputBatch):
        item.__module__, item.__qualname__ = module, item.__name__
        setattr(names, item.__name__, item)
    parents = module.split(".")
    shadowed = {".".join(parents[: end + 1]): None for end in range(len(parents))}
    with pytest.MonkeyPatch.context() as patch:
        for name in shadowed:
            patch.setitem(sys.modules, name, names if name == module else ModuleType(name))
        return pickle.dumps(TrainingInputBatch())
