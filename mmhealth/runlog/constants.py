"""Columns that hold one value throughout, told by the statistics of a row group: not to be read."""

from collections.abc import Collection

import polars as pl
import pyarrow.parquet as pq

_TYPES = {"INT64": pl.Int64, "BYTE_ARRAY": pl.String}


def constants(about: pq.RowGroupMetaData, names: Collection[str]) -> dict[str, pl.Series]:
    """For each column of 64-bit integers or text that holds one value and no null, that value."""
    found = {}
    for index in range(about.num_columns):
        column = about.column(index)
        if column.path_in_schema in names and (series := _only_value(column)) is not None:
            found[column.path_in_schema] = series
    return found


def _only_value(column: pq.ColumnChunkMetaData) -> pl.Series | None:
    told = column.statistics
    if told is None or not told.has_min_max or not told.has_null_count or told.null_count:
        return None
    kind = told.logical_type.type
    plain = column.physical_type == "INT64" and kind == "NONE"
    if not (plain or (column.physical_type == "BYTE_ARRAY" and kind == "STRING")):
        return None
    if told.min != told.max:
        return None
    return pl.Series(column.path_in_schema, [told.min], _TYPES[column.physical_type])
