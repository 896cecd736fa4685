"""A run of many ranks in many small segments: opening, following, reading, before and after
compaction. Writes docs/benchmarks/ranks.md, each row as soon as it is there; of 256 ranks
docs/benchmarks/ranks_256.md.

    python benchmarks/bench_ranks.py                # the 100,000 steps take most of an hour
    python benchmarks/bench_ranks.py --ranks 256 --rows 39 --steps 1000
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

RANKS, ROWS = 64, 4
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


def row(path: Path, what: str, steps: int, ranks: int) -> list[str]:
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
        f"{2**20 * memory / (steps * ranks):.0f}",
        f"{most:.0f}",
        f"{audit:.0f}",
        f"{1e3 * audit / steps:.1f}",
        f"{audit_most / 1024:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--segment", type=int, default=50, help="steps of a small segment")
    parser.add_argument("--ranks", type=int, default=RANKS)
    parser.add_argument("--rows", type=int, default=ROWS, help="trajectories of a rank and step")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    about = (
        f"{asked.ranks} ranks of {asked.rows} trajectories a step; small segments have "
        f"{asked.segment} steps. *First* is the first look, which names all steps, *poll* one that "
        "finds nothing new. *Bytes held*: by an open run, of each (step, rank), the libraries "
        "among them. The audit is `mmhealth audit --no-cache` from its start to its end, in one "
        "process. " + machine()
    )
    name, title, command = "ranks", "Many ranks, many small segments", "bench_ranks.py"
    if asked.ranks != RANKS:
        name = f"ranks_{asked.ranks}"
        command += (
            f" --ranks {asked.ranks} --rows {asked.rows} --steps {' '.join(map(str, asked.steps))}"
        )
    rows: list[list[str]] = []
    for steps in asked.steps:
        path, what = asked.dir / f"ranks-{steps}", "small segments"
        shutil.rmtree(path, ignore_errors=True)
        write_long_run(
            path, steps, ranks=asked.ranks, rows=asked.rows, steps_a_segment=asked.segment
        )
        for is_compacted in (False, True):
            if is_compacted:
                begun = time.perf_counter()
                compact(path)
                what = f"compacted in {time.perf_counter() - begun:.0f} s"
            rows.append(row(path, what, steps, asked.ranks))
            write_table(name, title, about, HEADER, rows, command=command)
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
