"""How much memory a diagnosis takes at most, by a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmhealth import Recorder

ROWS = 20_000
DIAGNOSE = """
import sys
from mmhealth import open_run
from mmhealth.health.diagnosis import diagnose

found = diagnose(open_run(sys.argv[1]))
assert len(found.insufficient) < 9, found.insufficient
status = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


def recorded(path, steps):
    rng = np.random.default_rng(0)
    columns = {
        "group_id": np.arange(ROWS) // 8,
        "success": rng.random(ROWS) < 0.4,
        "violated": rng.random(ROWS) < 0.1,
        "behavior_lag": rng.integers(3, size=ROWS),
        "subagents": rng.integers(5, size=ROWS),
        "turns": rng.integers(1, 9, ROWS),
        **{name: rng.normal(size=ROWS) for name in ("reward", "reward_a", "reward_b", "advantage")},
        "log_weight": rng.normal(0, 0.1, ROWS),
        "log_weight_mismatch": rng.normal(0, 0.1, ROWS),
    }
    with Recorder(path, strict=True) as recorder:
        for step in range(steps):
            recorder.log_step(step, columns)
    return path


def most_memory(path):
    """Kilobytes."""
    done = subprocess.run(
        [sys.executable, "-c", DIAGNOSE, path], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_run(tmp_path):
    short, long = (most_memory(recorded(tmp_path / f"{steps}", steps)) for steps in (20, 80))
    rows_of_the_rest = 60 * ROWS * 14 * 8 / 1024
    assert long - short < rows_of_the_rest / 2
