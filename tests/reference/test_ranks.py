"""Two processes under torchrun: every rank plays its share and records it."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from mmhealth.runlog import open_run

TRAIN = """
import sys
from dataclasses import replace
from mmhealth.reference import preset, train

environment, name, run_dir, steps, resume = sys.argv[1:]
config = preset(environment, name)
loop = replace(config.loop, group_size=min(config.loop.group_size, 4), hidden=8, eval_episodes=8)
train(environment, name, config=replace(config, loop=loop, steps=8), run_dir=run_dir,
      steps=int(steps), resume=bool(int(resume)), checkpoint_every=2, progress=False)
"""


def launch(script: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "train_ranks.py"
    path.write_text(TRAIN, encoding="utf-8")
    return path


def rows_of(run_dir: Path) -> dict[str, pl.DataFrame]:
    run = open_run(run_dir)
    keys = ["step", "rank", "trajectory_id"]
    return {
        name: frame.drop("attempt", "time", strict=False).sort(keys)
        for name, frame in (("trajectories", run.trajectories), ("updates", run.updates))
    }


def test_ranks_whose_episodes_end_at_different_turns(script, tmp_path):
    launch(script, "F4", "soft", tmp_path, 4, 0)
    run = open_run(tmp_path)
    data = [run.step_data(step) for step in range(4)]
    assert all(one is not None and one.complete and len(one.ranks) == 2 for one in data)


@pytest.mark.parametrize(("environment", "name"), [("F2", "unified")])
def test_ranks_share_the_batch_and_resume_to_the_bit(environment, name, script, tmp_path):
    launch(script, environment, name, tmp_path / "whole", 6, 0)
    run = open_run(tmp_path / "whole")
    data = [run.step_data(step) for step in range(6)]
    assert all(one is not None and one.complete for one in data)
    rows = run.trajectories.filter(pl.col("step") == 3)
    prompts = {rank: set(part["group_id"]) for (rank,), part in rows.group_by("rank")}
    assert set(prompts) == {0, 1}
    assert prompts[0] | prompts[1] == set(range(32))
    assert not prompts[0] & prompts[1]

    saved = torch.load(tmp_path / "whole" / "checkpoints" / "checkpoint.pt", weights_only=True)
    first, second = saved["states"]
    assert all(torch.equal(first["policy"][k], second["policy"][k]) for k in first["policy"])
    assert not torch.equal(first["streams"]["rollouts"], second["streams"]["rollouts"])

    launch(script, environment, name, tmp_path / "parts", 4, 0)
    launch(script, environment, name, tmp_path / "parts", 6, 1)
    whole, parts = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    for table in whole:
        assert_frame_equal(whole[table], parts[table], check_exact=True)
