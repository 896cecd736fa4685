"""All that one step holds, put together from its ranks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mmhealth.estimators import merge_histograms
from mmhealth.runlog.amendments import amend
from mmhealth.runlog.commits import Commit, StepKey
from mmhealth.runlog.constants import constant
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.reduced import ReducedStep, Summary
from mmhealth.schema import STEPS

Histogram = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class StepData:
    """One step as one attempt lived it: rows of all its ranks."""

    step: int
    attempt: int
    complete: bool
    """All expected ranks have committed and all their rows were read."""
    ranks_expected: int
    ranks: tuple[int, ...]
    """Ranks that committed."""
    nominal_batch: int | None
    rows_missing: int
    """Trajectory and update rows that commits speak of and that cannot be read."""
    trajectories: pl.DataFrame
    """In order of rank, then as logged; with the columns ``rank`` and ``attempt``."""
    updates: pl.DataFrame
    scalars: dict[str, float]
    """Of the lowest rank."""
    histograms: dict[str, Histogram]
    """Token log-ratio histograms, merged over ranks."""
    committed: float | None
    """When the last rank committed, seconds since 1970."""
    commits_missing: int = 0
    """Ranks that committed, and whose scalars and histograms cannot be read: those of the step are
    then not known."""
    reduced: ReducedStep | None = None
    """Stands in place of the rows: `trajectories` and `updates` are empty, and nothing is lost."""
    measured: str | None = None
    """The metrics of a reduced step, as JSON."""


def build_step(
    key: StepKey,
    commits: Mapping[int, Commit],
    rows_of: Callable[[str, Commit], pl.DataFrame | None],
    amendments: pl.DataFrame,
    *,
    ranks_expected: int,
    summary: Summary | None = None,
) -> StepData:
    """Put a step together. ``amendments`` are those of this step."""
    reduced, measured = summary or (None, None)
    ordered = [commits[rank] for rank in sorted(commits)]
    missing = 0
    frames: dict[str, pl.DataFrame] = {}
    for table in ("trajectories", "updates"):
        parts = []
        for commit in ordered:
            rows = rows_of(table, commit)
            if rows is not None:
                parts.append((rows, commit.writer))
            elif commit.key(table) is not None and reduced is None:
                missing += commit.rows(table)
        frames[table] = _with_step(to_frame(parts), key.step)
    nominal = [commit.nominal_batch for commit in ordered]
    times = [commit.time for commit in ordered if commit.time is not None]
    logged = [rows for rows in (rows_of("steps", commit) for commit in ordered) if rows is not None]
    unread = len(ordered) - len(logged)
    return StepData(
        step=key.step,
        attempt=key.attempt,
        complete=len(ordered) >= ranks_expected and not missing and not unread,
        ranks_expected=ranks_expected,
        ranks=tuple(sorted(commits)),
        nominal_batch=next((value for value in nominal if value is not None), None),
        rows_missing=missing,
        trajectories=amend(frames["trajectories"], amendments),
        updates=frames["updates"],
        scalars={} if unread else _scalars(logged[0], key.step),
        histograms={} if unread else _merge(logged, key.step),
        committed=max(times, default=None),
        commits_missing=unread,
        reduced=reduced,
        measured=measured,
    )


def _with_step(frame: pl.DataFrame, step: int) -> pl.DataFrame:
    """With the column ``step``, which need not be read."""
    if not frame.width or "step" in frame.columns:
        return frame
    return frame.hstack([constant("step", step, len(frame))])


def to_frame(parts: Iterable[tuple[pl.DataFrame, Writer]]) -> pl.DataFrame:
    """Batches one below the other, with the columns ``rank`` and ``attempt`` of who wrote each.

    What one lacks is null, and types widen.
    """
    filled = [(frame, writer) for frame, writer in parts if frame.width]
    try:
        # Mostly all have the same columns: then they need their writers only once.
        together = pl.concat([frame for frame, _ in filled], rechunk=True) if filled else None
    except (pl.exceptions.SchemaError, pl.exceptions.ShapeError):
        return stack([_with_writers(frame, [writer], [len(frame)]) for frame, writer in filled])
    if together is None:
        return pl.DataFrame()
    writers, rows = [writer for _, writer in filled], [len(frame) for frame, _ in filled]
    return _with_writers(together, writers, rows)


def _with_writers(
    frame: pl.DataFrame, writers: Sequence[Writer], rows: Sequence[int]
) -> pl.DataFrame:
    """Add who wrote the rows: so many of the first writer, then so many of the next."""
    about = {"rank": [w.rank for w in writers], "attempt": [w.attempt for w in writers]}
    clash = [name for name in about if name in frame.columns]
    if len(writers) == 1:
        owner = [constant(name, numbers[0], len(frame)) for name, numbers in about.items()]
    else:
        owner = [pl.Series(n, np.repeat(np.array(v, np.int64), rows)) for n, v in about.items()]
    return (frame.drop(clash) if clash else frame).hstack(owner)


def stack(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames one below the other, as `to_frame` does."""
    if not frames:
        return pl.DataFrame()
    if len(frames) == 1:
        return frames[0].rechunk()
    return pl.concat(frames, how="diagonal_relaxed", rechunk=True)


def _scalars(rows: pl.DataFrame, step: int) -> dict[str, float]:
    """What the trainer logged of a step beside what every commit says."""
    values = {name: _of_step(rows, step, name) for name in rows.columns if name not in _KNOWN}
    return {name: value for name, value in values.items() if value is not None}


def _merge(commits: Sequence[pl.DataFrame], step: int) -> dict[str, Histogram]:
    merged = {}
    for name in ("log_ratio_histogram", "log_ratio_tool_histogram"):
        logged = [_of_step(rows, step, name) for rows in commits if name in rows.columns]
        if counts := [np.asarray(part, np.int64) for part in logged if part is not None]:
            merged[name] = merge_histograms(*counts)
    return merged


def _of_step(rows: pl.DataFrame, step: int, name: str) -> Any:
    return rows[name][rows["step"].to_list().index(step)]


_KNOWN = frozenset(column.name for column in STEPS.columns)
