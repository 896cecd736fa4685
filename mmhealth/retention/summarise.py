"""One step in, its summary out."""

import json
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from mmhealth._version import __version__
from mmhealth.estimators import sketch
from mmhealth.health.metrics import step_metrics
from mmhealth.health.step_intervals import Demand
from mmhealth.health.step_reading import read_step
from mmhealth.health.stepcache import metrics_to_json
from mmhealth.runlog import StepData
from mmhealth.runlog.amendments import unmatched

_KEYS = frozenset({"step", "attempt", "rank"})
"""The same in every row of a step and rank."""


def summarise(
    data: StepData, loss_ratio: str, demanded: Collection[Demand], amendments: pl.DataFrame
) -> dict[str, Any]:
    """The row that stands for a step, with all its metrics (`runlog.reduced.SUMMARY_SCHEMA`).

    ``amendments`` are the late values that had come.
    """
    metrics = step_metrics(data, loss_ratio, demanded)
    metrics = replace(metrics, reading=read_step(data, loss_ratio))
    frames = {"trajectories": data.trajectories, "updates": data.updates}
    sketches = {table: _sketches(frame) for table, frame in frames.items()}
    logged = [
        f"{table}.{name}"
        for table, frame in frames.items()
        for name in frame.columns
        if frame[name].null_count() < len(frame)
    ]
    return {
        "attempt": data.attempt,
        "step": data.step,
        "trajectories_rows": len(data.trajectories),
        "updates_rows": len(data.updates),
        "amendments_rows": len(amendments),
        "amendments_unmatched": unmatched(amendments, data.trajectories),
        "reduced_at": time.time(),
        "version": __version__,
        "logged": logged,
        "horizons": _horizons(data.trajectories),
        "metrics": metrics_to_json(metrics),
        "sketches": json.dumps(sketches),
    }


def _horizons(trajectories: pl.DataFrame) -> list[int]:
    if "horizon" not in trajectories.columns:
        return []
    return [int(turns) for turns in trajectories["horizon"].drop_nulls().unique().sort()]


def _sketches(frame: pl.DataFrame) -> dict[str, Any]:
    found = {}
    for name in frame.columns:
        column = frame[name]
        if name in _KEYS or not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            continue
        values = column.drop_nulls().cast(pl.Float64).to_numpy()
        made = sketch(np.asarray(values, np.float64)).as_json()
        found[name] = made | {"null": column.null_count()}
    return found
