"""The installed verl itself, over its transfer queue on a local Ray; skipped where it is not."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmhealth import open_run

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("verl", "transfer_queue", "tensordict")),
    reason="verl and TransferQueue are not installed",
)

SCRIPT = """
import json
import mmhealth.integrations.verl.plugin  # by name: an editable install may lack the entry point
import verl
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

ray.init(num_cpus=16, include_dashboard=False, object_store_memory=100_000_000)
tq.init()
made = torch.Generator().manual_seed(0)
masks = [torch.ones(4 + row, dtype=torch.int64) for row in range(5)]
masks[1][1:3] = 0
sampler = [-torch.rand(len(mask), generator=made) for mask in masks]
old = [row + 0.01 * torch.randn(len(row), generator=made) for row in sampler]
advantages = [torch.full((len(mask),), 0.5 - row % 2) for row, mask in enumerate(masks)]
keys = [f"u{row // 2}_{row % 2}_0" for row in range(5)]
tags = [{"min_global_steps": 5, "max_global_steps": 6, "is_padding": row == 4} for row in range(5)]
sampled = [
    {
        "uid": key.split("_")[0], "prompts": torch.arange(3), "responses": torch.arange(len(mask)),
        "response_mask": mask, "loss_mask": mask, "rollout_log_probs": log_probs,
        "rm_scores": torch.ones(len(mask)) / len(mask), "num_turns": 2,
    }
    for key, mask, log_probs in zip(keys, masks, sampler)
]
tq.kv_batch_put(
    keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(sampled), tags=tags
)
nested = lambda rows: torch.nested.as_nested_tensor(rows, layout=torch.jagged)
computed = {"old_log_probs": old, "entropy": old, "advantages": advantages, "returns": advantages}
fields = TensorDict({name: nested(rows) for name, rows in computed.items()}, batch_size=5)
tq.kv_batch_put(keys=keys, partition_id="train", fields=fields)


class Trainer(PPOTrainer):
    def _get_n_gpus_for_throughput(self):
        return 1


Trainer.__abstractmethods__ = frozenset()
trainer = object.__new__(Trainer)
actor = {"rollout": {"n": 2}, "model": {"path": "tiny"}}
trainer.config = OmegaConf.create({"actor_rollout_ref": actor, "data": {"train_batch_size": 2}})
OmegaConf.set_struct(trainer.config, True)
trainer.use_critic, trainer._rollout_moe_lb_metrics_accumulator = False, None
batch = KVBatchMeta(partition_id="train", keys=keys, tags=tags)
timing = dict.fromkeys(("step", "gen", "old_log_prob", "adv", "update_actor", "ref", "values"), 1.0)
trainer._compute_metrics(batch, {}, timing, global_steps=7, epoch=0)
weights = [
    float((mine - theirs).double()[mask > 0].sum())
    for mine, theirs, mask in zip(old, sampler, masks)
]
print("weights", json.dumps(weights))
ray.shutdown()
"""


def test_a_step_of_its_trainer_is_recorded(tmp_path):
    root = Path(__file__).parents[3]
    known = [str(root), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ
        | {
            "MMHEALTH_RUN_DIR": str(tmp_path / "run"),
            "PYTHONPATH": os.pathsep.join(filter(None, known)),
            "RAY_AUTH_MODE": "disabled",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mmhealth: will record verl's steps in" in done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("weights "))
    weights = json.loads(line.removeprefix("weights "))
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [7]
    assert run.updates["log_weight"].to_list() == pytest.approx(weights[:4], abs=1e-6)
    assert run.updates["advantage"].to_list() == [0.5, -0.5, 0.5, -0.5]
    rows = run.trajectories
    assert rows["group_id"].to_list() == ["u0", "u0", "u1", "u1"]
    assert rows["behavior_lag"].to_list() == [1] * 4
    assert rows["length"].to_list() == [4, 3, 6, 7]
    assert rows["turns"].to_list() == [1, 2, 1, 1]
    assert rows["reward"].to_list() == pytest.approx([1.0] * 4)
    assert run.step_data(7).nominal_batch == 4
