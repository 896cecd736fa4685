"""Columns that hold one value throughout: told by the statistics of a row group, not to be read."""

from collections.abc import Collection
from functools import lru_cache

import polars as pl
import pyarrow.parquet as pq


@lru_cache(64)
def constant(name: str, value: int | str, rows: int) -> pl.Series:
    """A column of 64-bit integers or text that holds one value; not to be changed in place."""
    dtype = pl.String if isinstance(value, str) else pl.Int64
    return pl.Series(name, [value], dtype).new_from_index(0, rows)


def constants(about: pq.RowGroupMetaData, names: Collection[str]) -> dict[str, pl.Series]:
    """The columns of 64-bit integers or text that hold one value and no null."""
    found = {}
    for index in range(about.num_columns):
        column = about.column(index)
        name = column.path_in_schema
        if name in names and (value := _only_value(column)) is not None:
            found[name] = constant(name, value, about.num_rows)
    return found


def _only_value(column: pq.ColumnChunkMetaData) -> int | str | None:
    told = column.statistics
    if told is None or not told.has_min_max or not told.has_null_count or told.null_count:
        return None
    kind = told.logical_type.type
    plain = column.physical_type == "INT64" and kind == "NONE"
    if not (plain or (column.physical_type == "BYTE_ARRAY" and kind == "STRING")):
        return None
    if told.min != told.max:
        return None
    return told.min  # type: ignore[no-any-return]
