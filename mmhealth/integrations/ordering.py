"""Rows in any order, put together into steps in bounded memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

_BUCKET_ROWS = 1 << 18
_MAX_BUCKETS = 128


@dataclass(slots=True)
class StepSurvey:
    """Which steps a file holds, and whether their rows stand in order."""

    rows: Counter[int] = field(default_factory=Counter)
    """Rows of each step."""
    ascending: bool = True
    _last: int | None = None

    def add(self, steps: pa.Array) -> None:
        """Take in the steps of some rows, in the order of the file."""
        values = steps.to_numpy()
        if not len(values):
            return
        found, counts = np.unique(values, return_counts=True)
        self.rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        follows = self._last is None or int(values[0]) >= self._last
        self.ascending = self.ascending and follows and bool((np.diff(values) >= 0).all())
        self._last = int(values[-1])


def by_step(
    batches: Iterable[pa.Table], survey: StepSurvey, scratch: Path
) -> Iterator[tuple[int, pa.Table]]:
    """Each step once, in order, with its rows as they stand in the file.

    Holds one step in memory where the file is in order of steps. Otherwise the rows first go to
    files in ``scratch``, each for a range of steps, and one such range is held.
    """
    if survey.ascending:
        yield from _split(batches)
        return
    edges = _edges(survey.rows)
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    try:
        for table in batches:
            bucket = np.searchsorted(edges, table["step"].to_numpy(), side="right")
            for number in np.unique(bucket).tolist():
                if number not in writers:
                    path = scratch / f"{number}.arrows"
                    writers[number] = pa.ipc.new_stream(path, table.schema)
                writers[number].write_table(table.filter(pa.array(bucket == number)))
    finally:
        for writer in writers.values():
            writer.close()
    for number in sorted(writers):
        path = scratch / f"{number}.arrows"
        with pa.ipc.open_stream(path) as reader:
            table = reader.read_all()
        path.unlink()
        order = np.argsort(table["step"].to_numpy(), kind="stable")
        yield from _split([table.take(pa.array(order))])


def _edges(rows: Counter[int]) -> list[int]:
    """First steps of all buckets but the first."""
    limit = max(_BUCKET_ROWS, -(-rows.total() // _MAX_BUCKETS))
    edges, filled = [], 0
    for step in sorted(rows):
        if filled and filled + rows[step] > limit:
            edges.append(step)
            filled = 0
        filled += rows[step]
    return edges


def _split(batches: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Runs of equal steps in tables that are in order of steps."""
    step: int | None = None
    parts: list[pa.Table] = []
    for table in batches:
        values = table["step"].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()] if len(values) else []
        for start, stop in zip(starts, [*starts[1:], len(values)], strict=False):
            if step is not None and int(values[start]) != step:
                yield step, pa.concat_tables(parts)
                parts = []
            step = int(values[start])
            parts.append(table.slice(start, stop - start))
    if step is not None:
        yield step, pa.concat_tables(parts)
