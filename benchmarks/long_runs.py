"""Long runs of many ranks, written in seconds: the segments that recorders would leave, and none
of the recording. One step is recorded, and comes again with other numbers.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth import Recorder
from mmhealth.runlog.layout import RUN_FILE, WRITERS, Writer, writer_path
from mmhealth.runlog.segment import write_segment

TABLES = ("trajectories", "updates", "steps")


def write_long_run(
    path: Path, steps: int, *, ranks: int = 1, rows: int = 4, steps_a_segment: int | None = None
) -> Path:
    """A run of this many steps, unless it is there; compacted, or in segments of so many steps."""
    if (path / RUN_FILE).exists():
        return path
    template = path.with_name(f".{path.name}-template")
    shutil.rmtree(template, ignore_errors=True)
    with Recorder(template, world_size=ranks, rank=0, attempt=0, nominal_batch=rows) as recorder:
        recorder.log_step(0, _columns(rows), {"loss": 1.0})
    one = {table: _only_table(template / table) for table in TABLES}
    about = json.loads(writer_path(template, Writer(0, 0)).read_text())
    for folder in (*TABLES, WRITERS):
        (path / folder).mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        ended = {"rank": rank, "last_seq": dict.fromkeys(TABLES, steps - 1)}
        writer_path(path, Writer(rank, 0)).write_text(json.dumps(about | ended))
    for rank in range(ranks):
        for first in range(0, steps, steps_a_segment or steps):
            last = min(first + (steps_a_segment or steps), steps)
            for table in TABLES:
                _write(path / table, Writer(rank, 0), one[table], first, last)
    (template / RUN_FILE).rename(path / RUN_FILE)
    shutil.rmtree(template)
    return path


def _write(folder: Path, writer: Writer, one: pa.Table, first: int, last: int) -> None:
    batches = [(seq, one.num_rows) for seq in range(first, last)]
    write_segment(folder, writer, batches, one.schema, _steps(one, first, last))


def _steps(one: pa.Table, first: int, last: int) -> Iterator[pa.Table]:
    """The recorded step again and again, 4,096 at a time, each with its own numbers."""
    for begin in range(first, last, 4096):
        steps = np.arange(begin, min(begin + 4096, last))
        table = one.take(np.tile(np.arange(one.num_rows), len(steps)))
        own = np.repeat(steps, one.num_rows)
        for name in ("step", "trajectories_seq", "updates_seq"):
            if name in table.schema.names:
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(name), pa.array(own))
        yield table


def _only_table(folder: Path) -> pa.Table:
    [file] = folder.glob("*.parquet")
    return pq.read_table(file).replace_schema_metadata(None)


def _columns(rows: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    advantage = rng.choice([-0.5, 0.5], rows)
    return {
        "group_id": np.arange(rows) // 2,
        "reward": rng.random(rows),
        "length": rng.integers(50, 2000, rows),
        "advantage": advantage,
        "log_weight": rng.normal(0, 0.1, rows),
        "grad_norm": np.abs(advantage) * rng.lognormal(0, 0.5, rows),
    }
