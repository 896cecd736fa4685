"""Rows of one step as arrays, and the reasons why a number is not there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from mmhealth.errors import EstimatorInputError

Array = np.ndarray[Any, np.dtype[np.float64]]


class Missing(Exception):  # noqa: N818 - a reason on its way to the timeline, not an error
    """Why a metric is not known."""


class Rows:
    """Rows of a table, one array a column."""

    def __init__(self, frame: pl.DataFrame, what: str) -> None:
        self.frame = frame
        self.what = what

    def __len__(self) -> int:
        return len(self.frame)

    def numbers(self, column: str) -> Array:
        """A complete column of finite numbers. Raises `Missing` with the reason."""
        if not len(self):
            raise Missing(f"no {self.what} rows")
        if column not in self.frame.columns:
            raise Missing(f"{column} is not logged")
        series = self.frame[column]
        if nulls := series.null_count():
            if nulls == len(series):
                raise Missing(f"{column} is not logged")
            raise Missing(f"{column} is missing in {nulls} of {len(series)} {self.what} rows")
        return series.cast(pl.Float64).to_numpy()

    def present(self, column: str) -> Array:
        """The finite values that are there, at least one."""
        if column not in self.frame.columns:
            raise Missing(f"{column} is not logged")
        values = self.frame[column].drop_nulls().cast(pl.Float64).to_numpy()
        values = values[np.isfinite(values)]
        if not values.size:
            raise Missing(f"{column} has no finite value")
        return np.asarray(values, np.float64)


class Collector:
    """Gathers metrics, or the reasons why there are none."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def put(self, name: str, compute: Callable[[], Any]) -> None:
        """Keep what ``compute`` returns, or the reason why there is nothing."""
        try:
            self.values[name] = compute()
        except (Missing, EstimatorInputError) as reason:
            self.values[name] = None
            self.reasons[name] = str(reason)

    def absorb(self, other: "Collector") -> None:
        """Take over what another one gathered."""
        self.values |= other.values
        self.reasons |= other.reasons


def with_role(frame: pl.DataFrame, roles: tuple[str, ...]) -> pl.DataFrame:
    """The rows of these roles."""
    return frame if frame.is_empty() else frame.filter(pl.col("role").is_in(roles))


def last_update(updates: pl.DataFrame) -> pl.DataFrame:
    """Each trajectory as it entered its last update: one row a trajectory, in order."""
    if updates.is_empty() or updates["update"].n_unique() == 1:
        return updates
    last = pl.col("update").max().over("rank", "trajectory_id")
    return updates.filter(pl.col("update") == last)


def look_up(rows: pl.DataFrame, trajectories: pl.DataFrame, column: str) -> pl.Series:
    """For each row of an update what ``column`` says of its trajectory; null where nothing does.

    An id that stands for several trajectories of a rank counts as its last one; ids that are
    numbers on one side and text on the other are compared as text.
    """
    keys = ["rank", "trajectory_id"]
    left, right = rows.select(keys), trajectories.select(*keys, column)
    if left["trajectory_id"].dtype != right["trajectory_id"].dtype:
        as_text = pl.col("trajectory_id").cast(pl.String)
        left, right = left.with_columns(as_text), right.with_columns(as_text)
    right = right.unique(keys, keep="last", maintain_order=True)
    return left.join(right, on=keys, how="left", maintain_order="left")[column]
