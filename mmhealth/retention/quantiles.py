"""Reads the sketches that stand for the columns of reduced steps."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from mmhealth.errors import RetentionError
from mmhealth.estimators import Sketch, sketch
from mmhealth.runlog import Run, StepData


def step_sketches(run: Run, step: int) -> dict[str, Sketch]:
    """The sketches of a reduced, visible step, by ``table.column``.

    Raises RetentionError where the step is not reduced, or its summary cannot be read.
    """
    about = next((found for found in run.reduced_steps() if found.key.step == step), None)
    text = None if about is None else run.summary_of(about.key, "sketches")
    if text is None:
        raise RetentionError(
            f"{run.path}: step {step} has no summary: its rows, if it has any, are in "
            "Run.step_data(step)"
        )
    return {
        f"{table}.{name}": Sketch.from_json(content)
        for table, columns in json.loads(text).items()
        for name, content in columns.items()
    }


def step_sketch(run: Run, step: int, column: str) -> Sketch:
    """The sketch of a column, ``table.column``; of several steps they can be merged.

    Raises RetentionError as `step_sketches` does, and for a column that is not there.
    """
    found = step_sketches(run, step)
    if column not in found:
        raise RetentionError(
            f"{run.path}: step {step} has no numbers in {column}; those it has: "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    return found[column]


def course_of_quantiles(
    run: Run, column: str, quantiles: Sequence[float], last: int
) -> list[dict[str, Any]]:
    """Of each of the last visible steps that can be judged, the quantiles of a column,
    ``table.column``.

    One dictionary a step: ``step``, whether it is ``reduced``, the ``count`` of finite values, and
    each quantile under its number, within 1 % of the value; None where the step has no number
    there. Steps that are not reduced are sketched from their rows. Raises RetentionError where no
    step has numbers in the column, EstimatorInputError for a quantile outside [0, 1].
    """
    lived = [key for key, _ in run.due_steps() if run.is_visible(key.attempt, key.step)]
    found = []
    for key in lived[-last:]:
        data = run.lived_step(key)
        held = _sketch_of(run, data, column)
        told = {f"{q:g}": held.quantile(q) for q in quantiles}
        about = {"step": key.step, "reduced": data.reduced is not None, "count": held.count}
        found.append(about | told)
    if not any(item["count"] for item in found):
        raise RetentionError(f"{run.path}: no number in {column} in the last {len(found)} steps")
    return found


def _sketch_of(run: Run, data: StepData, column: str) -> Sketch:
    if data.reduced is not None:
        return step_sketches(run, data.step).get(column, Sketch())
    table, _, name = column.partition(".")
    frame = {"trajectories": data.trajectories, "updates": data.updates}.get(table, pl.DataFrame())
    if name not in frame.columns or not _is_number(frame[name].dtype):
        return Sketch()
    return sketch(frame[name].drop_nulls().cast(pl.Float64).to_numpy())


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean
