"""What it costs to follow a run, by how long it has become. Writes docs/benchmarks/tail.md.

A step of 64 trajectories is recorded, and a reader that has read all before looks, judges it, and
says what is new; the reader is `Run.tail`, a `Timeline`, and a `Monitor` with the default policy.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from big_runs import write_run
from tables import machine, write_table

from mmhealth import Recorder, open_run
from mmhealth.health import Monitor
from mmhealth.health.timeline import Timeline

NEW, ROWS = 30, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    rows = []
    for steps in asked.steps:
        path = write_run(asked.dir / f"tail-{steps}", steps, ROWS, segment_bytes=4 << 20)
        reader, timeline, monitor = open_run(path), Timeline(open_run(path)), Monitor(path)
        looks = {"tail": reader.tail, "timeline": timeline.update, "monitor": monitor.poll}
        for look in looks.values():
            look()
        times: dict[str, list[float]] = {name: [] for name in looks}
        start = reader.complete_steps()[-1] + 1
        with write_more(path, start) as recorder:
            columns = write_columns(path)
            for step in range(start, start + NEW):
                recorder.log_step(step, columns)
                for name, look in looks.items():
                    begun = time.perf_counter()
                    look()
                    times[name].append(time.perf_counter() - begun)
        figures = [f"{1e3 * median(times[name]):.1f}" for name in looks]
        rows.append([f"{steps:,}", *figures])
    about = (
        f"One new step of {ROWS} trajectories a look, median of {NEW} looks. *tail* names the step "
        "and does not read its rows. " + machine()
    )
    header = ["steps before", "tail, ms", "timeline, ms", "monitor, ms"]
    write_table("tail", "Following a run", about, header, rows)


def write_more(path: Path, start: int) -> Recorder:
    return Recorder(path, start_step=start, nominal_batch=ROWS, strict=True)


def write_columns(path: Path) -> dict[str, object]:
    data = open_run(path).step_data(0)
    assert data is not None
    kept = data.trajectories.drop("step", "rank", "attempt", "role", "trajectory_id")
    used = data.updates.select("advantage", "log_weight", "grad_norm")
    return {series.name: series.to_numpy() for series in [*kept, *used]}


if __name__ == "__main__":
    main()
