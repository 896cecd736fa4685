"""A run that is killed and resumed, judged by what its run directory says."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from mmhealth.health import Monitor
from mmhealth.interventions import EssAdaptiveConfig
from mmhealth.reference import Fixes, LoopConfig, RepairConfig, TrainConfig, train
from mmhealth.reference.environments.majority_rule import MajorityRuleConfig
from mmhealth.runlog import Run, open_run

STEPS = 28


def config() -> TrainConfig:
    environment = MajorityRuleConfig(prompts=8, need_low=6, need_high=7)
    loop = LoopConfig(group_size=8, learning_rate=0.012, updates=2, lag=1, eval_episodes=32)
    fixes = Fixes(ess=EssAdaptiveConfig(kl_coef=0.25, hold=3), repair=RepairConfig())
    return TrainConfig(environment=environment, steps=STEPS, loop=loop, fixes=fixes)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_restart import config
from mmhealth.reference import train

def die(log):
    if log.step == 23:
        os.kill(os.getpid(), signal.SIGKILL)

train("F2", "ess", run_dir=sys.argv[1], config=config(), checkpoint_every=9,
      progress=False, on_step=die)
"""


def tables(run: Run) -> dict[str, pl.DataFrame]:
    own = ("attempt", "rank", "time")
    return {
        name: frame.select(column for column in frame.columns if column not in own)
        for name, frame in (
            ("trajectories", run.trajectories),
            ("updates", run.updates),
            ("evaluations", run.evaluations),
        )
    }


def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path):
    train("F2", "ess", run_dir=tmp_path / "whole", config=config(), progress=False)
    here = str(Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), here], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    result = train(
        "F2",
        "ess",
        run_dir=tmp_path / "killed",
        config=config(),
        resume=True,
        progress=False,
        checkpoint_every=9,
    )
    assert result.first_step == 18
    whole, resumed = open_run(tmp_path / "whole"), open_run(tmp_path / "killed")
    expected, got = tables(whole), tables(resumed)
    for name in expected:
        assert_frame_equal(got[name], expected[name], check_exact=True)
    assert set(expected["updates"]["role"]) == {"used", "replaced", "injected"}
    monitor = Monitor(whole)
    monitor.poll()
    assert "ess_signal" in {alert.rule for alert in monitor.alerts}
