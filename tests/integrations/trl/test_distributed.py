"""Two data-parallel processes record one run; training and norms are as in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmhealth.runlog import open_run

WORKER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
import conftest
from mmhealth.integrations.trl import attach
out = Path(sys.argv[2])
found = {}

def backward_alone(trainer, exact):
    loss_of, hooked = type(trainer)._compute_loss.__get__(trainer), trainer._compute_loss
    def compute(model, inputs):
        for place in range(len(inputs["advantages"])):
            only = torch.arange(len(inputs["advantages"])) == place
            loss = loss_of(trainer.model, inputs | {"advantages": inputs["advantages"] * only})
            gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))
            exact.append(sum(float(g.double().square().sum()) for g in gradients) ** 0.5)
        return hooked(model, inputs)
    trainer._compute_loss = compute

for name in ("plain", "run"):
    options = {"num_iterations": 2, "max_steps": 4, "num_generations": 4}
    trainer = conftest.make("GRPO", out / "trainer", **options)
    exact = []
    if name != "plain":
        hear = lambda alert, control: None
        attach(trainer, out / name, stop=True, on_alert=hear, strict=True)
        backward_alone(trainer, exact)
    trainer.train()
    assert torch.distributed.get_world_size() == 2
    found[name] = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    found["norms"] = exact
torch.save(found, out / f"{trainer.accelerator.process_index}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_record_one_run(tmp_path: Path, unused_port: int) -> None:
    common = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(unused_port),
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "true",
    }
    here = str(Path(__file__).parent)
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, here, str(tmp_path)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for result in results:
        assert torch.equal(result["run"], results[0]["plain"])
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [0, 1]
    assert run.step_data(0).nominal_batch == 16
    assert len(run.trajectories) == 32
    rows = run.trajectories.join(run.updates, on=["step", "rank", "trajectory_id"])
    for (_group, _step, update), group in rows.group_by("group_id", "step", "update"):
        rewards = group["reward"].to_numpy()
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert group["advantage"].to_numpy() == pytest.approx(expected, abs=1e-5), update
    assert rows["reward"].n_unique() > 4
    groups = run.trajectories.group_by("step", "group_id").len()
    assert groups["len"].to_list() == [4] * 8
    for rank, result in enumerate(results):
        mine = run.updates.filter(run.updates["rank"] == rank).sort("step", maintain_order=True)
        measured = torch.tensor(mine["grad_norm"].to_list(), dtype=torch.float64)
        expected = torch.tensor(result["norms"], dtype=torch.float64)
        torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-7)
