"""A run of many ranks in many small segments: opening, reading, following, before and after
compaction. Writes docs/benchmarks/ranks.md.

64 ranks record 16 trajectories a step each; their tails are sealed every few steps.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tables import machine, write_table

from mmhealth import Recorder
from mmhealth.runlog import compact

RANKS, ROWS = 64, 16
READ = """
import json, sys, time
from mmhealth import open_run
from mmhealth.health import build_timeline

def held(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

before, times = held("VmRSS"), [time.perf_counter()]
run = open_run(sys.argv[1])
times.append(time.perf_counter())
memory = held("VmRSS") - before
run.tail()
times.append(time.perf_counter())
for _ in range(5):
    run.tail()
times.append(time.perf_counter())
steps = len(build_timeline(open_run(sys.argv[1])).frame)
times.append(time.perf_counter())
spans = [later - earlier for earlier, later in zip(times, times[1:])]
print(json.dumps([steps, spans[0], memory, spans[2] / 5, spans[3], held("VmHWM")]))
"""


def record(path: Path, steps: int) -> None:
    rng = np.random.default_rng(0)
    advantage = rng.choice([-0.5, 0.5], ROWS)
    columns: dict[str, Any] = {
        "group_id": np.arange(ROWS) // 8,
        "reward": rng.random(ROWS),
        "length": rng.integers(50, 2000, ROWS),
        "entropy": rng.gamma(2, 0.5, ROWS),
        "advantage": advantage,
        "log_weight": rng.normal(0, 0.1, ROWS),
        "grad_norm": np.abs(advantage) * rng.lognormal(0, 0.5, ROWS),
    }
    for rank in range(RANKS):
        with Recorder(
            path, rank=rank, world_size=RANKS, attempt=0, segment_bytes=25_000, strict=True
        ) as recorder:
            for step in range(steps):
                recorder.log_step(step, columns, {"loss": 1.0})


def row(path: Path, what: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    steps, opened, memory, poll, timeline, most = json.loads(done.stdout)
    files = [file for file in path.rglob("*.parquet") if file.is_file()]
    return [
        f"{what}, {steps:,} steps",
        f"{len(files):,}",
        f"{opened:.2f}",
        f"{1024 * memory / (steps * RANKS):.2f}",
        f"{1e3 * poll:.0f}",
        f"{timeline:.1f}",
        f"{1e3 * timeline / steps:.1f}",
        f"{most:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    asked = parser.parse_args()
    rows = []
    for steps in asked.steps:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            record(path, steps)
            rows.append(row(path, "as recorded"))
            compact(path)
            rows.append(row(path, "compacted"))
            shutil.rmtree(path)
    about = (
        f"{RANKS} ranks of {ROWS} trajectories a step, their tails sealed at 25 kB. The timeline "
        "has all metrics, in one process. *KB held*: by an open run, of each (step, rank). "
        + machine()
    )
    header = [
        "run",
        "files",
        "open, s",
        "KB held",
        "poll, nothing new, ms",
        "timeline, s",
        "ms a step",
        "MB at most",
    ]
    write_table("ranks", "Many ranks, many small segments", about, header, rows)


if __name__ == "__main__":
    main()
