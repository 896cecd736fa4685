"""A run of many ranks in many small segments: opening, following, reading, before and after
compaction. Writes docs/benchmarks/ranks.md.

64 ranks write 16 trajectories a step each, in segments of a few steps.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from long_runs import write_long_run
from own_process import AUDIT, measure
from tables import machine, write_table

from mmhealth.runlog import compact

RANKS, ROWS = 64, 16
READ = """
import gc, json, sys, time
import pyarrow.parquet
from mmhealth import open_run

def held(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

def seconds(do):
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun

before, begun = held("VmRSS"), time.perf_counter()
run = open_run(sys.argv[1])
opened = time.perf_counter() - begun
gc.collect()
memory, most = held("VmRSS") - before, held("VmHWM")
first, status, poll = seconds(run.tail), seconds(run.status), seconds(run.tail)
print(json.dumps([opened, memory, most, first, poll, status]), file=sys.stderr)
"""
TIMELINE = """
import json, sys, time
from mmhealth import open_run
from mmhealth.health import build_timeline

run = open_run(sys.argv[1])
begun = time.perf_counter()
build_timeline(run)
print(json.dumps([time.perf_counter() - begun]), file=sys.stderr)
"""


def row(path: Path, what: str, steps: int, *, judged: bool) -> list[str]:
    opened, memory, most, first, poll, status = measure(READ, path)
    judgement = [""] * 4
    if judged:
        [timeline], [audit, peak] = measure(TIMELINE, path), measure(AUDIT, path)
        per_step = 1e3 * timeline / steps
        judgement = [f"{timeline:.1f}", f"{per_step:.1f}", f"{audit:.1f}", f"{peak / 1024:.0f}"]
    files = [file for file in path.rglob("*.parquet") if file.is_file()]
    return [
        f"{what}, {steps:,} steps",
        f"{len(files):,}",
        f"{opened:.1f}",
        f"{first:.2f}",
        f"{1e3 * poll:.0f}",
        f"{status:.2f}",
        f"{2**20 * memory / (steps * RANKS):.0f}",
        f"{most:.0f}",
        *judgement,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--segment", type=int, default=50, help="steps of a small segment")
    parser.add_argument("--rows", type=int, default=ROWS, help="trajectories of a rank and step")
    parser.add_argument(
        "--judged", type=int, default=1_000, help="timelines and audits up to so many steps"
    )
    parser.add_argument("--small", type=int, default=10_000, help="small segments up to so many")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    rows: list[list[str]] = []
    for steps in asked.steps:
        path, judged = asked.dir / f"ranks-{steps}", steps <= asked.judged
        shutil.rmtree(path, ignore_errors=True)
        small = asked.segment if steps <= asked.small else None
        write_long_run(path, steps, ranks=RANKS, rows=asked.rows, steps_a_segment=small)
        if small:
            rows.append(row(path, "small segments", steps, judged=judged))
            compact(path)
        rows.append(row(path, "compacted", steps, judged=judged))
        shutil.rmtree(path)
    about = (
        f"{RANKS} ranks of {asked.rows} trajectories a step; small segments have {asked.segment} "
        "steps. *First* is the first look, which names all steps, *poll* one that finds nothing "
        "new. *Bytes held*: by an open run, of each (step, rank), the libraries among them; *MB at "
        "most*: of that process until it was open. The timeline has all metrics, in one process; "
        "the audit is `mmhealth audit --no-cache` from its start. " + machine()
    )
    header = [
        "run",
        "files",
        "open, s",
        "first, s",
        "poll, ms",
        "status, s",
        "bytes held",
        "MB at most",
        "timeline, s",
        "ms a step",
        "audit, s",
        "audit, MB at most",
    ]
    write_table("ranks", "Many ranks, many small segments", about, header, rows)


if __name__ == "__main__":
    main()
