"""Rows of one step as arrays, and the reasons why a number is not there."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl

from mmhealth.errors import EstimatorInputError

Array = np.ndarray[Any, np.dtype[np.float64]]
Value = TypeVar("Value")


class Missing(Exception):  # noqa: N818 - a reason on its way to the timeline, not an error
    """Why a metric is not known."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric and how many rows it describes."""

    value: float
    rows: int


class Rows:
    """Rows of a table, one array a column; each is read once, and not to be written to."""

    def __init__(self, frame: pl.DataFrame, what: str) -> None:
        self.frame = frame
        self.what = what
        self.columns = frozenset(frame.columns)
        self._numbers: dict[str, Array | str] = {}
        """Complete columns, or why there is none."""
        self._beside: tuple[pl.DataFrame, bool] | None = None
        """Trajectories asked before, and whether these are their rows one by one."""

    def __len__(self) -> int:
        return self.frame.height

    def has(self, column: str) -> bool:
        """Whether the column has a value in some row."""
        return column in self.columns and self.frame[column].null_count() < len(self)

    def numbers(self, column: str) -> Array:
        """A complete column of numbers. Raises `Missing` with the reason."""
        if column not in self._numbers:
            try:
                self._numbers[column] = self._complete(column)
            except Missing as reason:
                self._numbers[column] = str(reason)
        found = self._numbers[column]
        if isinstance(found, str):
            raise Missing(found)
        return found

    def look_up(self, trajectories: pl.DataFrame, column: str) -> pl.Series:
        """What `look_up` says for these rows; they are compared once with the same trajectories."""
        if self._beside is None or self._beside[0] is not trajectories:
            self._beside = trajectories, _one_by_one(self.frame, trajectories)
        return (
            trajectories[column] if self._beside[1] else look_up(self.frame, trajectories, column)
        )

    def _complete(self, column: str) -> Array:
        if not len(self):
            raise Missing(f"no {self.what} rows")
        if column not in self.columns:
            raise Missing(f"{column} is not logged")
        series = self.frame[column]
        if nulls := series.null_count():
            if nulls == len(series):
                raise Missing(f"{column} is not logged")
            raise Missing(f"{column} is missing in {nulls} of {len(series)} {self.what} rows")
        return as_floats(series)

    def present(self, column: str) -> Array:
        """The finite values that are there, at least one."""
        if not len(self):
            raise Missing(f"no {self.what} rows")
        if column not in self.columns:
            raise Missing(f"{column} is not logged")
        values = present(self.frame[column])
        finite = np.isfinite(values)
        if not finite.any():
            raise Missing(f"{column} has no finite value")
        return values if finite.all() else np.asarray(values[finite], np.float64)


def as_floats(series: pl.Series) -> Array:
    """Numbers or flags as float64; null becomes NaN."""
    floats = series if series.dtype == pl.Float64 else series.cast(pl.Float64)
    return np.asarray(floats.to_numpy(), np.float64)


def present(series: pl.Series) -> Array:
    """Those that are not null, as float64."""
    return as_floats(series.drop_nulls() if series.has_nulls() else series)


class Collector:
    """Gathers metrics, or the reasons why there are none; only those ``wanted``, or all."""

    def __init__(self, wanted: Collection[str] | None = None) -> None:
        self.wanted = None if wanted is None else frozenset(wanted)
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        """Rows behind a metric, where `Measured` said so."""

    def wants(self, *names: str) -> bool:
        """Whether any of these is wanted."""
        return self.wanted is None or not self.wanted.isdisjoint(names)

    def put(self, name: str, compute: Callable[[], Any]) -> None:
        """Keep what ``compute`` returns, or the reason why there is nothing."""
        if not self.wants(name):
            return
        try:
            found = compute()
            if isinstance(found, Measured):
                self.rows[name] = found.rows
                found = found.value
            self.values[name] = found
        except (Missing, EstimatorInputError) as reason:
            self.values[name] = None
            self.reasons[name] = str(reason)

    def known(self, name: str) -> float:
        """What was put under this name. Raises `Missing` with the reason why there is nothing."""
        if name in self.reasons:
            raise Missing(self.reasons[name])
        return float(self.values[name])


def once(compute: Callable[[], Value]) -> Callable[[], Value]:
    """What it computes, or the `Missing` that it raises, when first asked for; `functools.cache`
    takes ten times as long to make."""
    found: list[Value] = []
    missing: list[str] = []  # an exception would hold its frames, and these the rows of the step

    def kept() -> Value:
        if missing:
            raise Missing(missing[0])
        if not found:
            try:
                found.append(compute())
            except Missing as reason:
                missing.append(str(reason))
                raise
        return found[0]

    return kept


def with_role(frame: pl.DataFrame, roles: tuple[str, ...]) -> pl.DataFrame:
    """The rows of these roles; a row without one was used."""
    return with_roles(frame, roles)[0]


def with_roles(frame: pl.DataFrame, *of: tuple[str, ...]) -> list[pl.DataFrame]:
    """`with_role` for several choices of roles, which are looked through once."""
    if frame.is_empty():
        return [frame] * len(of)
    role = frame["role"]
    first = role[0]
    if role.has_nulls() or not (role == first).all():
        named = role.fill_null("used")
        return [frame.filter(named.is_in(roles)) for roles in of]
    return [frame if first in roles else frame.clear() for roles in of]


def last_update(updates: pl.DataFrame) -> pl.DataFrame:
    """Each trajectory as it entered its last update: one row a trajectory, in order.

    A trajectory logged several times under one update number counts as it was logged last. Rows
    without a trajectory_id are all kept.
    """
    if updates.is_empty():
        return updates
    number, logged = pl.col("update").fill_null(0), updates["update"]
    if logged.has_nulls() or logged.min() != logged.max():
        updates = updates.filter(number == number.max().over("rank", "trajectory_id"))
    if count_trajectories(updates) == len(updates):
        return updates
    again = pl.struct("rank", "trajectory_id").is_last_distinct()
    return updates.filter(again | pl.col("trajectory_id").is_null())


def count_trajectories(frame: pl.DataFrame) -> int:
    """How many trajectories the rows speak of; each row without an id is one of its own."""
    if frame.is_empty():
        return 0
    if are_distinct(frame):
        return len(frame)
    ids = frame.select("rank", "trajectory_id")
    nulls = ids["trajectory_id"].null_count()
    return nulls + ids.drop_nulls().n_unique()


def are_distinct(frame: pl.DataFrame) -> bool:
    """Whether each row is above the one before, by rank, then by number: all different, told at
    once. False says nothing."""
    ids = frame["trajectory_id"]
    if not ids.dtype.is_integer() or ids.has_nulls():
        return False
    numbers, ranks = ids.to_numpy(), frame["rank"].to_numpy()
    higher = numbers[1:] > numbers[:-1]
    if ranks.size and (ranks == ranks[0]).all():
        return bool(higher.all())
    return bool(((ranks[1:] > ranks[:-1]) | (higher & (ranks[1:] == ranks[:-1]))).all())


def same_ids(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables with ids that can be joined: as text where only one of them has numbers."""
    if left["trajectory_id"].dtype == right["trajectory_id"].dtype:
        return left, right
    as_text = pl.col("trajectory_id").cast(pl.String)
    return left.with_columns(as_text), right.with_columns(as_text)


def look_up(rows: pl.DataFrame, trajectories: pl.DataFrame, column: str) -> pl.Series:
    """For each row of an update what ``column`` says of its trajectory; null where nothing does.

    An id that stands for several trajectories of a rank counts as its last one; ids that are
    numbers on one side and text on the other are compared as text.
    """
    if _one_by_one(rows, trajectories):
        return trajectories[column]
    left, right = same_ids(rows.select(_KEYS), trajectories.select(*_KEYS, column))
    ids = right["trajectory_id"]
    same = left.equals(right.select(_KEYS)) and not ids.has_nulls()
    if same and ids.n_unique() == len(ids):
        return right[column]
    right = right.unique(_KEYS, keep="last", maintain_order=True)
    return left.join(right, on=_KEYS, how="left", maintain_order="left")[column]


_KEYS = ["rank", "trajectory_id"]


def _one_by_one(rows: pl.DataFrame, trajectories: pl.DataFrame) -> bool:
    """Whether both have the same ids, all different, in one order; False says nothing."""
    same = all(_same(rows[key], trajectories[key]) for key in _KEYS)
    return same and are_distinct(trajectories)


def _same(left: pl.Series, right: pl.Series) -> bool:
    """Whether these are the same whole numbers; False says nothing."""
    if len(left) != len(right) or not (left.dtype == right.dtype == pl.Int64):
        return False
    if left.has_nulls() or right.has_nulls():
        return False
    return bool((left.to_numpy() == right.to_numpy()).all())
