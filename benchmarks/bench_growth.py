"""Time and peak memory of reading and of auditing a run, from 10^5 to 10^8 trajectories.

Steps of 10,000 trajectories with 13 columns; each size is read by a process of its own, which
computes all metrics of the timeline, one step after the other, and audited by another: `mmhealth
audit --no-cache --json -`. Writes docs/benchmarks/growth.md.
"""

import argparse
import tempfile
from pathlib import Path

from big_runs import ROWS, write_run
from own_process import AUDIT, MOST, measure
from tables import machine, write_table

READ = (
    MOST
    + """
from mmhealth import open_run
from mmhealth.health import build_timeline

before = most()
begun = time.perf_counter()
run = open_run(sys.argv[1])
opened = time.perf_counter()
frame = build_timeline(run).frame
ended = time.perf_counter()
found = [len(frame), int(frame["n"].sum()), opened - begun, ended - opened, before, most()]
print(json.dumps(found), file=sys.stderr)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**8, help="trajectories of the largest run")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    rows, size = [], 10**5
    while size <= asked.most:
        path = write_run(asked.dir / f"growth-{size}", size // ROWS)
        steps, n, opened, read, before, peak = measure(READ, path)
        audit, audit_peak = measure(AUDIT, path)
        disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        rows.append(
            [
                f"{n:,}",
                f"{steps:,}",
                f"{disk / n:.0f}",
                f"{opened:.2f}",
                f"{read:.2f}",
                f"{1e9 * (opened + read) / n / 60:.0f}",
                f"{before / 1024:.0f}",
                f"{peak / 1024:.0f}",
                f"{audit:.1f}",
                f"{audit_peak / 1024:.0f}",
            ]
        )
        size *= 10
    about = (
        f"Steps of {ROWS:,} trajectories with 13 columns; each run read by a process of its own, "
        "all metrics, one step after the other, and by another for `mmhealth audit`, its start "
        "included. " + machine()
    )
    header = [
        "trajectories",
        "steps",
        "bytes each on disk",
        "open, s",
        "timeline, s",
        "minutes for 10^9 at this pace",
        "MB once imported",
        "MB at most",
        "audit, s",
        "audit, MB at most",
    ]
    write_table("growth", "Reading a run that grows", about, header, rows)


if __name__ == "__main__":
    main()
