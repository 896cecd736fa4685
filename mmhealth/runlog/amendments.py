"""Values that arrive late: which row each one fills, and filling it in."""

import polars as pl

from mmhealth.runlog.commits import Commits
from mmhealth.schema import AMENDMENTS, TRAJECTORIES

AMENDED_KEYS = ["step", "attempt", "rank", "trajectory_id"]


def amend(trajectories: pl.DataFrame, amendments: pl.DataFrame) -> pl.DataFrame:
    """Fill in values that arrived late; for each trajectory and column the latest wins.

    ``amendments`` are `usable_amendments`, their column ``attempt`` the owner of the row they fill.
    """
    if amendments.is_empty() or trajectories.is_empty():
        return trajectories
    latest = (
        with_ids_like(amendments, trajectories)
        .sort("arrived_step", maintain_order=True)
        .unique([*AMENDED_KEYS, "column"], keep="last", maintain_order=True)
    )
    for name in latest["column"].unique(maintain_order=True).to_list():
        late = latest.filter(column=name).select(*AMENDED_KEYS, pl.col("value").alias("_late"))
        trajectories = trajectories.join(late, on=AMENDED_KEYS, how="left", maintain_order="left")
        value = pl.col("_late").cast(_type(name))
        filled = pl.coalesce(value, pl.col(name)) if name in trajectories.columns else value
        trajectories = trajectories.with_columns(filled.alias(name)).drop("_late")
    return trajectories


def late_columns(amendments: pl.DataFrame) -> pl.DataFrame:
    """No rows, with the columns that late values fill and the types that these have."""
    names = amendments["column"].unique(maintain_order=True)
    return pl.DataFrame(schema={name: _type(name) for name in names})


def with_ids_like(amendments: pl.DataFrame, trajectories: pl.DataFrame) -> pl.DataFrame:
    """Amendments with ids of the trajectories' type; an id that cannot be one becomes null."""
    dtype = trajectories["trajectory_id"].dtype
    return amendments.with_columns(pl.col("trajectory_id").cast(dtype, strict=False))


def unmatched(amendments: pl.DataFrame, trajectories: pl.DataFrame) -> int:
    """How many amendments of a step fit none of its trajectories."""
    if amendments.is_empty() or trajectories.is_empty():
        return len(amendments)
    fitting = with_ids_like(amendments, trajectories)
    return len(fitting.join(trajectories, on=AMENDED_KEYS, how="anti"))


def usable_amendments(amendments: pl.DataFrame) -> pl.DataFrame:
    """The rows that say what they fill and with what."""
    needed = [column.name for column in AMENDMENTS.columns]
    absent = [pl.lit(None).alias(name) for name in needed if name not in amendments.columns]
    return amendments.with_columns(absent).drop_nulls(needed)


def empty_amendments() -> pl.DataFrame:
    """No amendments, with the right columns."""
    types = {"id": pl.Int64, "integer": pl.Int64, "real": pl.Float64, "text": pl.String}
    schema = {column.name: types[column.kind] for column in AMENDMENTS.columns}
    return pl.DataFrame(schema={**schema, "rank": pl.Int64, "attempt": pl.Int64})


def owned(amendments: pl.DataFrame, commits: Commits) -> pl.DataFrame:
    """The usable ones; their column ``attempt`` becomes the owner of the row that each one fills:
    the attempt whose row of that step stood when the value was written.
    """
    frame = usable_amendments(amendments)
    if frame.is_empty():
        return empty_amendments()
    owners = [commits.owner(a, s) for a, s in frame.select("attempt", "step").rows()]
    return frame.with_columns(attempt=pl.Series(owners, dtype=pl.Int64))


def by_step(amendments: pl.DataFrame, commits: Commits) -> dict[int, pl.DataFrame]:
    """Late values of all attempts, `owned`, by the step they fill."""
    frame = owned(amendments, commits)
    parts = frame.partition_by("step", as_dict=True, maintain_order=True)
    return {int(step): part for (step,), part in parts.items()}


def _type(column: str) -> type[pl.DataType]:
    return pl.Boolean if TRAJECTORIES.kind(column) == "flag" else pl.Float64
