"""What it costs to follow a run, by how long it has become. Writes docs/benchmarks/tail.md.

A step is recorded, and a reader that has read all before looks, judges it, and says what is new;
the reader is `Run.tail`, a `Timeline`, and a `Monitor` with the default policy. Those two measure
all steps before they follow, which takes minutes beyond 100,000: they read runs of ``--judged``.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from long_runs import write_long_run
from tables import machine, write_table

from mmhealth import RecorderHandle, open_run
from mmhealth.health import Monitor
from mmhealth.health.timeline import Timeline

NEW, ROWS = 30, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--judged", type=int, default=100_000, help="up to so many steps")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    rows = []
    for ranks in asked.ranks:
        for steps in asked.steps:
            # Of 64 ranks as many (step, rank) as one rank has at most.
            if steps * ranks <= 6.4 * max(asked.steps):
                rows.append(row(asked.dir, steps, ranks, judged=steps * ranks <= asked.judged))
    about = (
        f"One new step of {ROWS} trajectories a rank and look, median of {NEW} looks. *tail* names "
        "the step and does not read its rows; *first* is its first look, which names all steps "
        "there are, after *open*. " + machine()
    )
    header = ["steps before", "ranks", "open, s", "first, s", "tail, ms", "timeline, ms"]
    write_table("tail", "Following a run", about, [*header, "monitor, ms"], rows)


def row(folder: Path, steps: int, ranks: int, *, judged: bool) -> list[str]:
    kept = write_long_run(folder / f"tail-{steps}-{ranks}", steps, ranks=ranks)
    path = folder / f"tail-{steps}-{ranks}-followed"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(kept, path)
    begun = time.perf_counter()
    reader = open_run(path)
    opened = time.perf_counter() - begun
    looks = {"tail": reader.tail}
    if judged:
        timeline, monitor = Timeline(open_run(path)), Monitor(path)
        looks |= {"timeline": timeline.update, "monitor": monitor.poll}
    times: dict[str, list[float]] = {name: [seconds(look)] for name, look in looks.items()}
    handle = RecorderHandle.issue(path, world_size=ranks, start_step=steps)
    recorders = [handle.of(rank).open() for rank in range(ranks)]
    rng = np.random.default_rng(0)
    columns = {"reward": rng.random(ROWS), "advantage": rng.normal(size=ROWS)}
    for step in range(steps, steps + NEW):
        for recorder in recorders:
            recorder.log_step(step, columns)
        for name, look in looks.items():
            times[name].append(seconds(look))
    for recorder in recorders:
        recorder.close()
    shutil.rmtree(path)
    figures = [f"{1e3 * median(times[name][1:]):.1f}" if name in times else "" for name in LOOKS]
    return [f"{steps:,}", str(ranks), f"{opened:.2f}", f"{times['tail'][0]:.2f}", *figures]


LOOKS = ("tail", "timeline", "monitor")


def seconds(look: object) -> float:
    assert callable(look)
    begun = time.perf_counter()
    look()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
