"""Sampled rows of a run, a window of steps at a time: memory does not grow with the run."""

from collections.abc import Collection, Iterator

import polars as pl

from mmhealth.health.rows import with_role
from mmhealth.runlog import Run
from mmhealth.schema import SAMPLED_ROLES

WINDOW_ROWS = 1 << 16
"""Rows from which on a window ends."""


class SampledRows:
    """Those of one table, ``trajectories`` or ``updates``."""

    def __init__(self, run: Run, table: str) -> None:
        self._run = run
        self._table = table
        self.schema = run.schema(table)
        """Columns and their types over the whole run."""

    def known(self, names: Collection[str]) -> frozenset[str]:
        """Those of these columns that have a value anywhere; read no further than it takes."""
        left = {name for name in names if name in self.schema}
        while left and (found := self._first_known(left)):
            left -= found
        return frozenset(name for name in names if name in self.schema and name not in left)

    def windows(self, names: Collection[str]) -> Iterator[pl.DataFrame]:
        """Rows of neighbouring steps, `WINDOW_ROWS` or one step at least, as they were logged.

        With the columns of these names that are in `schema`, of the types that they have there; a
        window that lacks one has nulls. ``step`` and ``role`` come with them.
        """
        wanted = ("step", "role", *names)
        types = pl.Schema({name: self.schema[name] for name in wanted if name in self.schema})
        held: list[pl.DataFrame] = []
        for rows in self._run.read(self._table, types):
            held.append(rows)
            if sum(map(len, held)) >= WINDOW_ROWS:
                yield _window(held, types)
                held.clear()
        if held:
            yield _window(held, types)

    def _first_known(self, names: Collection[str]) -> set[str]:
        """Of these columns those with values in the first step in which any has one."""
        for rows in self._run.read(self._table, {"role", *names}):
            sampled = with_role(rows, SAMPLED_ROLES)
            there = [name for name in names if name in sampled.columns]
            if found := {name for name in there if sampled[name].null_count() < len(sampled)}:
                return found
        return set()


def _window(steps: list[pl.DataFrame], types: pl.Schema) -> pl.DataFrame:
    rows = pl.concat(steps, how="diagonal_relaxed", rechunk=True)
    absent = [pl.lit(None, types[name]).alias(name) for name in types if name not in rows.columns]
    return with_role(rows.with_columns(absent).select(types.names()).cast(types), SAMPLED_ROLES)
