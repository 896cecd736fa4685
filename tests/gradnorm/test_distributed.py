"""Owned norms in data-parallel processes."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

WORKER = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(7, 6), nn.LayerNorm(6), nn.Linear(6, 3)).double()
torch.manual_seed(1)
tokens = torch.randint(0, 7, (8, 4))
mine = tokens[4 * rank : 4 * rank + 4]
wrapped = DistributedDataParallel(model)
with GradNorms(wrapped).step(4) as norms:
    wrapped(mine).tanh().square().sum().backward()
sharded = fully_shard(nn.Linear(4, 4), mesh=init_device_mesh("cpu", (2,)))
try:
    refusal = str(GradNorms(sharded))
except GradNormError as error:
    refusal = str(error)
gradients = [p.grad for p in model.parameters()]
torch.save((norms.per_trajectory(), gradients, refusal), f"{out}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_measure_before_the_all_reduce_and_refuse_shards(tmp_path: Path, oracle):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", "-c", WORKER]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(tmp_path)], env=environment
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 6), nn.LayerNorm(6), nn.Linear(6, 3)).double()
    torch.manual_seed(1)
    batch = torch.randint(0, 7, (8, 4))
    each = oracle(model, lambda i: model(batch[[i]]).tanh().square().sum(), 8)
    expected = torch.stack([v.square() for v in each.values()]).sum(0).sqrt()
    model(batch).tanh().square().sum().backward()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([norms for norms, _, _ in results]), expected)
    for _, gradients, refusal in results:
        for averaged, parameter in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(2 * averaged, parameter.grad)
        assert refusal.startswith("weight is a DTensor: sharded (FSDP")
