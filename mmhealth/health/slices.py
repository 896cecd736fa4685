"""How the trajectories of a table are cut into slices, column by column.

========================= =====================================================================
column                    its slices
========================= =====================================================================
text, flags               one a value
numbers, `MANY` or fewer  one a value
length, token_count,      powers of two: 0, 1, 2 to 3, 4 to 7, ... the same in every run
tool_calls
numbers, more than `MANY` four quarters of the rows; the edges are values that occur, each bucket
                          with its upper one; where most rows share the largest value, that value
                          and the others; -inf is in the lowest bucket, +inf in the highest
group_id                  one a group; in a window one a group and step, for ids hold for a step
========================= =====================================================================

Nulls and NaN are slices of their own. No slices: a column that tells every row of a step from every
other (an id), one with a single value, and lists. Extra columns of the trainer are treated alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from mmhealth.estimators.decomposition import IntArray
from mmhealth.schema import TRAJECTORIES

MANY = 16
"""Numbers with more distinct values are cut at their quartiles."""
DOUBLING = ("length", "token_count", "tool_calls")
NO_VALUE, NOT_A_NUMBER = "(none)", "(NaN)"
_WRITERS = ("trajectory_id", "attempt")


@dataclass(frozen=True, slots=True)
class Slicing:
    """One column: a number for each row, and a label for each number."""

    column: str
    labels: list[str]
    codes: IntArray
    """(rows,) numbers of the rows' slices in [0, len(labels))."""
    groups: IntArray | None = None
    """(rows,) numbers of the rows' groups, whole as chance deals them; None for ``group_id``, whose
    slices they are, and where some row has no group."""


def cut(
    frame: pl.DataFrame, columns: Sequence[str] | None = None
) -> tuple[list[Slicing], dict[str, str]]:
    """The slicings of trajectories (with their ``step``), and why other columns have none.

    ``columns``: these only, in place of all. Neither the order of the rows nor that of the columns
    changes a slice.
    """
    found, skipped = [], {}
    groups = _groups(frame)
    for name in sorted(frame.columns if columns is None else dict.fromkeys(columns)):
        if name not in frame.columns:
            skipped[name] = "not logged"
            continue
        if why := _no_slices(frame, name):
            skipped[name] = why
            continue
        labels = _labels(frame, name)
        unique = labels.unique().sort()
        if len(unique) == 1:
            skipped[name] = f"one slice: {unique[0]}"
            continue
        codes = labels.cast(pl.Enum(unique)).to_physical().cast(pl.Int64).to_numpy()
        found.append(Slicing(name, unique.to_list(), codes, None if name == "group_id" else groups))
    return found, skipped


def _groups(frame: pl.DataFrame) -> IntArray | None:
    """A number for each group of each step; None where some row has no group."""
    if "group_id" not in frame.columns or frame["group_id"].null_count():
        return None
    return frame.select(pl.struct("step", "group_id").rank("dense")).to_series().to_numpy() - 1


def _no_slices(frame: pl.DataFrame, name: str) -> str | None:
    series = frame[name]
    if name in _WRITERS:
        return "names single trajectories" if name == "trajectory_id" else "counts restarts"
    if not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
        return f"its values are of type {series.dtype}"
    names_things = series.dtype.is_integer() or series.dtype == pl.String
    if names_things and TRAJECTORIES.kind(name) is None and name != "rank":
        all_differ = (pl.col(name).n_unique() == pl.len()).alias("all_differ")
        steps = frame.filter(pl.len().over("step") > 1).group_by("step").agg(all_differ)
        if len(steps) and steps["all_differ"].all():
            return "differs in every row, an id"
    return None


def _labels(frame: pl.DataFrame, name: str) -> pl.Series:
    """One text a row."""
    series = frame[name]
    if name == "group_id" and frame["step"].n_unique() > 1:
        texts = frame.select(
            pl.format("{}, step {}", pl.col(name).cast(pl.String), pl.col("step"))
        ).to_series()
    elif name in DOUBLING and series.dtype.is_integer():
        texts = _doubling(series)
    elif series.dtype.is_numeric() and name not in ("group_id", "step", "rank"):
        few = series.drop_nulls().n_unique() <= MANY
        texts = series.cast(pl.String) if few else _quarters(series)
        if series.dtype.is_float():
            texts = texts.zip_with(~series.is_nan().fill_null(False), _repeat(NOT_A_NUMBER))
    else:
        texts = series.cast(pl.String)
    return texts.fill_null(NO_VALUE) if texts.has_nulls() else texts


def _doubling(series: pl.Series) -> pl.Series:
    """Buckets whose edges are powers of two; negative numbers by themselves."""
    numbers = series.unique().drop_nulls().to_list()
    texts = {n: _power_of_two(n) for n in numbers}
    return series.replace_strict(texts, default=None, return_dtype=pl.String)


def _power_of_two(number: int) -> str:
    if number < 2:
        return str(number)
    low = 1 << (number.bit_length() - 1)
    return f"{low} to {2 * low - 1}"


def _quarters(series: pl.Series) -> pl.Series:
    """Buckets at the quartiles of the finite values."""
    values = series.cast(pl.Float64)
    finite = values.filter(values.is_finite()).to_numpy()
    edges = np.unique(np.quantile(finite, (0.25, 0.5, 0.75), method="inverted_cdf"))
    edges = edges[edges < finite.max()]
    if not edges.size:
        edges = finite[finite < finite.max()].max(keepdims=True)
    names = [f"{edge:.6g}" for edge in edges]
    labels = [
        f"up to {names[0]}",
        *(f"above {low} to {high}" for low, high in pairwise(names)),
        f"above {names[-1]}",
    ]
    place = np.searchsorted(edges, values.fill_null(0.0).to_numpy(), side="left")
    return pl.Series(np.array(labels)[np.minimum(place, len(edges))]).zip_with(
        values.is_not_null(), _repeat(None)
    )


def _repeat(text: str | None) -> pl.Series:
    return pl.Series([text], dtype=pl.String)
