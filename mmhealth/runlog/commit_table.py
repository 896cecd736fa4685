"""The commits of one attempt in columns: some 70 bytes each, and no object."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from mmhealth.runlog.intervals import IntArray

Columns: TypeAlias = dict[str, np.ndarray[Any, np.dtype[Any]]]
"""Arrays of one length, by name."""

NONE = np.iinfo(np.int64).min
"""What stands for a whole number that a commit does not say; for a real one NaN does."""

_LOGGED = {
    "step": (pl.Int64, NONE),
    "nominal_batch": (pl.Int64, NONE),
    "ranks_expected": (pl.Int64, 1),
    "trajectories_seq": (pl.Int64, NONE),
    "trajectories_rows": (pl.Int64, 0),
    "updates_seq": (pl.Int64, NONE),
    "updates_rows": (pl.Int64, 0),
    "time": (pl.Float64, np.nan),
}
"""What is read of the table ``steps``: the type, and what stands where nothing was logged."""

COMMIT_COLUMNS = tuple(_LOGGED)


def columns_of(rank: int, seqs: IntArray, rows: pl.DataFrame) -> Columns:
    """Commits of a rank, read from the table ``steps`` with `COMMIT_COLUMNS`.

    ``seqs`` (rows,) are the numbers of the batches they lie in. A row without a step is none.
    """
    columns: Columns = {
        "rank": np.full(len(rows), rank, np.int64),
        "seq": seqs,
    }
    for name, (dtype, absent) in _LOGGED.items():
        column = rows[name] if name in rows.columns else None
        if column is not None and column.dtype != dtype:
            column = column.cast(dtype, strict=False)
        if column is not None and column.null_count():
            column = column.fill_null(absent)
        columns[name] = np.full(len(rows), absent) if column is None else column.to_numpy()
    columns["ranks_expected"] = np.maximum(columns["ranks_expected"], 1)
    if (whole := columns["step"] != NONE).all():
        return columns
    return {name: values[whole] for name, values in columns.items()}


class Rows:
    """Commits in columns that grow; in the order in which they came."""

    def __init__(self) -> None:
        self._size = 0
        self._columns: Columns = {
            "rank": np.empty(0, np.int32),
            "seq": np.empty(0, np.int64),
            **{name: np.empty(0, np.dtype(type(absent))) for name, (_, absent) in _LOGGED.items()},
        }

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A column: a view that holds until rows are taken in."""
        return self._columns[name][: self._size]

    @property
    def names(self) -> list[str]:
        """Of all columns."""
        return list(self._columns)

    def append(self, rows: "Columns | Rows") -> None:
        """Take in rows behind all others."""
        size = self._size + len(rows["step"])
        for name, column in self._columns.items():
            if size > len(column):
                self._columns[name] = np.empty(size + size // 2, column.dtype)
                self._columns[name][: self._size] = column[: self._size]
            self._columns[name][self._size : size] = rows[name]
        self._size = size

    def arrange(self, begin: int, order: IntArray) -> None:
        """Put rows from ``begin`` on in this order; those that it leaves out are gone."""
        for name in self._columns:
            self._columns[name][begin : begin + len(order)] = self[name][begin:][order]
        self._size = begin + len(order)


class CommitTable:
    """Commits in order of step, then rank; of those that a rank has of a step, the first it wrote.

    Taking in commits costs as much as they are many, and as stand behind the first of them.
    """

    def __init__(self) -> None:
        self._rows = Rows()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A column: a view that holds until commits are taken in."""
        return self._rows[name]

    def place(self, step: int) -> slice:
        """Where the commits of a step are."""
        every = self["step"]
        return slice(int(every.searchsorted(step)), int(every.searchsorted(step, "right")))

    def has(self, step: int) -> bool:
        """Whether some rank has committed a step."""
        place = int(np.searchsorted(self["step"], step))
        return place < len(self) and int(self["step"][place]) == step

    @property
    def steps(self) -> IntArray:
        """All steps, ascending, each once."""
        every = self["step"]
        return every[np.flatnonzero(np.diff(every, prepend=NONE))]

    def add(self, rows: Rows) -> None:
        """Take in commits."""
        begin = int(np.searchsorted(self["step"], rows["step"].min()))
        if len(self):
            self._rows.append(rows)
        else:
            self._rows = rows
        steps, ranks = self["step"][begin:], self["rank"][begin:]
        order = np.lexsort((self["seq"][begin:], ranks, steps))
        again = np.zeros(len(order), np.bool_)
        again[1:] = (np.diff(steps[order]) == 0) & (np.diff(ranks[order]) == 0)
        self._rows.arrange(begin, order[~again])

    def spans(self, steps: IntArray) -> tuple[IntArray, IntArray]:
        """Of each step, where its commits begin and end."""
        every = self["step"]
        return np.searchsorted(every, steps), np.searchsorted(every, steps, side="right")

    def blocks(self, steps: IntArray, most: int = 1 << 17) -> Iterator["Block"]:
        """The commits of these steps, each of which has some, about so many at a time."""
        begins, ends = self.spans(steps)
        counts = ends - begins
        cuts = np.flatnonzero(np.diff((np.cumsum(counts) - 1) // most)) + 1
        for part in np.split(np.arange(len(steps)), cuts) if len(steps) else ():
            starts = np.cumsum(counts[part]) - counts[part]
            place = np.arange(int(counts[part].sum()))
            rows = np.repeat(begins[part] - starts, counts[part]) + place
            yield Block(self, steps[part], starts, rows)


def by_rank(ranks: np.ndarray[Any, np.dtype[Any]]) -> Iterator[tuple[int, IntArray]]:
    """Each rank, and where it stands in an array (commits,)."""
    order = np.argsort(ranks, kind="stable")
    cuts = np.flatnonzero(np.diff(ranks[order])) + 1
    for part in np.split(order, cuts) if len(order) else ():
        yield int(ranks[part[0]]), part


class Block:
    """Commits of some steps of one attempt."""

    def __init__(self, table: CommitTable, steps: IntArray, starts: IntArray, rows: IntArray):
        self._table = table
        self._rows = rows
        self.steps = steps
        """(steps,)"""
        self._starts = starts

    def __getitem__(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """(commits,) A column, in order of the steps, then of ranks."""
        return self._table[name][self._rows]

    @property
    def counts(self) -> IntArray:
        """(steps,) How many commits each step has."""
        return np.diff(self._starts, append=len(self._rows))

    def sum(self, values: np.ndarray[Any, np.dtype[Any]]) -> IntArray:
        """(steps,) The sum over the commits of each step, of values (commits,)."""
        return np.add.reduceat(values, self._starts, dtype=np.int64)

    def most(self, name: str) -> IntArray:
        """(steps,) The largest value that the commits of each step have."""
        return np.maximum.reduceat(self[name], self._starts)
