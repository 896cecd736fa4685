"""How long `log_step` blocks a training loop, beside what else people log tables with.

10,000 trajectories x (20 float32 + 6 string) columns; all contestants in one process, taking turns
in blocks of 50 steps, so that a noisy machine is noisy for all. Writes docs/benchmarks/log_step.md.

    pip install 'mmhealth[bench]'    # for the rows of W&B and trackio; they are left out otherwise
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tables import machine, write_table

from mmhealth import Recorder

ROWS, FLOATS, STRINGS = 10_000, 20, 6
STEPS = 400
SLOW_STEPS = 3
BLOCK = 50

Log = Callable[[int], None]


def make_columns() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    floats = {f"f{i}": rng.normal(size=ROWS).astype(np.float32) for i in range(FLOATS)}
    names = [f"source-{number}" for number in range(7)]
    strings = {f"s{i}": [names[(row + i) % 7] for row in range(ROWS)] for i in range(STRINGS)}
    return floats, strings


def mmhealth_log(folder: Path, columns: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    rec = Recorder(folder)
    return lambda step: rec.log_step(step, columns), rec.close


def arrow_log(folder: Path, columns: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    folder.mkdir(parents=True)
    schema = pa.record_batch({name: pa.array(values) for name, values in columns.items()}).schema
    sink = pa.OSFile(str(folder / "plain.arrows"), "wb")
    stream = pa.ipc.new_stream(sink, schema)

    def log(_step: int) -> None:
        stream.write_batch(pa.record_batch({n: pa.array(v) for n, v in columns.items()}))

    return log, sink.close


def wandb_log(folder: Path, columns: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    import wandb

    folder.mkdir(parents=True)
    os.environ["WANDB_SILENT"] = "true"
    run = wandb.init(mode="offline", dir=str(folder), project="bench")

    def log(step: int) -> None:
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        run.log({f"table_{step}": wandb.Table(columns=list(columns), data=rows)})

    return log, run.finish


def trackio_log(folder: Path, columns: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    os.environ["TRACKIO_DIR"] = str(folder)
    import pandas as pd
    import trackio

    trackio.init(project="bench", embed=False)

    def log(step: int) -> None:
        trackio.log({"table": trackio.Table(dataframe=pd.DataFrame(columns))}, step=step)

    return log, trackio.finish


def measure(folder: Path) -> list[list[str]]:
    floats, strings = make_columns()
    both = floats | strings
    contestants = [
        ("mmhealth, floats alone", mmhealth_log, floats, STEPS),
        ("mmhealth, floats and strings", mmhealth_log, both, STEPS),
        ("bare Arrow IPC append, floats alone", arrow_log, floats, STEPS),
        ("bare Arrow IPC append, floats and strings", arrow_log, both, STEPS),
    ]
    if importlib.util.find_spec("wandb"):
        contestants.append(("W&B `Table` offline, floats alone", wandb_log, floats, SLOW_STEPS))
    if importlib.util.find_spec("trackio") and importlib.util.find_spec("pandas"):
        contestants.append(("trackio `Table`, floats alone", trackio_log, floats, SLOW_STEPS))
    opened = []
    for number, (name, make, columns, steps) in enumerate(contestants):
        log, close = make(folder / str(number), columns)
        opened.append((name, log, close, steps, []))
    for block in range(0, STEPS, BLOCK):
        for _, log, _, steps, times in opened:
            for step in range(max(block, STEPS - steps), block + BLOCK):
                start = time.perf_counter()
                log(step)
                times.append(time.perf_counter() - start)
    rows = []
    for name, _, close, steps, times in opened:
        close()
        ms = np.array(times[1:]) * 1e3
        p50, p99, worst = np.quantile(ms, [0.5, 0.99, 1.0])
        rows.append([name, str(steps - 1), f"{p50:.2f}", f"{p99:.2f}", f"{worst:.2f}"])
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        write_table(
            "log_step",
            "Blocking time of one `log_step`",
            f"{ROWS:,} trajectories x ({FLOATS} float32 + {STRINGS} string) columns, {STEPS} "
            f"steps back to back, seals included; the contestants take turns of {BLOCK} steps in "
            f"one process. The first call of each is left out. {machine()}",
            ["logged with", "calls", "p50 ms", "p99 ms", "max ms"],
            measure(Path(temporary)),
        )
