"""A run of many ranks in many small segments: opening, following, reading, before and after
compaction. Writes docs/benchmarks/ranks.md, each row as soon as it is there.

100,000 steps take an hour; `--steps 1000 10000` a few minutes.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from long_runs import write_long_run
from own_process import AUDIT, measure
from tables import machine, write_table

from mmhealth.runlog import compact

RANKS = 64
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

HEADER = [
    "run",
    "files",
    "open, s",
    "first, s",
    "poll, ms",
    "status, s",
    "bytes held",
    "open, MB at most",
    "audit, s",
    "ms a step",
    "audit, MB at most",
]


def row(path: Path, what: str, steps: int) -> list[str]:
    opened, memory, most, first, poll, status = measure(READ, path)
    audit, audit_most = measure(AUDIT, path)
    files = [file for file in path.rglob("*.parquet") if file.is_file()]
    return [
        f"{steps:,} steps, {what}",
        f"{len(files):,}",
        f"{opened:.1f}",
        f"{first:.2f}",
        f"{1e3 * poll:.0f}",
        f"{status:.2f}",
        f"{2**20 * memory / (steps * RANKS):.0f}",
        f"{most:.0f}",
        f"{audit:.0f}",
        f"{1e3 * audit / steps:.1f}",
        f"{audit_most / 1024:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--segment", type=int, default=50, help="steps of a small segment")
    parser.add_argument("--rows", type=int, default=4, help="trajectories of a rank and step")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    about = (
        f"{RANKS} ranks of {asked.rows} trajectories a step; small segments have {asked.segment} "
        "steps. *First* is the first look, which names all steps, *poll* one that finds nothing "
        "new. *Bytes held*: by an open run, of each (step, rank), the libraries among them. The "
        "audit is `mmhealth audit --no-cache` from its start to its end, in one process. "
        + machine()
    )
    rows: list[list[str]] = []

    def add(found: list[str]) -> None:
        rows.append(found)
        write_table("ranks", "Many ranks, many small segments", about, HEADER, rows)

    for steps in asked.steps:
        path = asked.dir / f"ranks-{steps}"
        shutil.rmtree(path, ignore_errors=True)
        write_long_run(path, steps, ranks=RANKS, rows=asked.rows, steps_a_segment=asked.segment)
        add(row(path, "small segments", steps))
        begun = time.perf_counter()
        compact(path)
        add(row(path, f"compacted in {time.perf_counter() - begun:.0f} s", steps))
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
