"""What a diagnosis reads of a run: one row a step, and reasons for what is not there.

A trajectory's raw log weight is taken apart into three things that different causes make:

- *mismatch*: sampler against trainer, ``log_weight_mismatch`` as logged;
- *age*: what is left of it at the step's first update, which an older behaviour policy makes;
- *reuse*: what it gained from the first update of the step to the last, on the same batch.

How much each would cost alone is its *loss*, ``-ln ESS`` of the weights that it alone would make
(nats; a Gaussian of standard deviation s loses s^2; an ESS of 50 % is 0.69).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.monitor import Monitor
from mmhealth.health.rows import Missing, with_role
from mmhealth.health.timeline import Timeline, build_timeline
from mmhealth.runlog import Run, open_run
from mmhealth.schema import SAMPLED_ROLES

Array = np.ndarray[Any, np.dtype[np.float64]]

WINDOW = 10
"""Steps over which evidence is averaged: what lasts shorter is no mode of a run."""
FEWEST_STEPS = 15
"""A run with fewer steps has no course to read."""


@dataclass(slots=True)
class Record:
    """The frames of a run that evidence is read from; arrays are (steps,), NaN: not known."""

    run: Run
    timeline: Timeline
    _cache: dict[str, Any] = field(default_factory=dict)

    @property
    def frame(self) -> pl.DataFrame:
        """The timeline: one row a visible step."""
        return self.timeline.frame

    @property
    def steps(self) -> Array:
        """(steps,) numbers of the steps."""
        return np.asarray(self.frame["step"].to_numpy(), np.float64)

    def __len__(self) -> int:
        return len(self.frame)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """What ``compute`` returns, kept for the next time."""
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]

    def metric(self, name: str) -> Array:
        """(steps,) a column of the timeline. Raises `Missing` where it is never known."""
        values = self.frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
        if np.isnan(values).all():
            why = next((self.timeline.reason(int(s), name) for s in self.steps[-1:]), None)
            raise Missing(why or f"{name} is not known")
        return values

    @property
    def sampled(self) -> pl.DataFrame:
        """Sampled trajectories of all steps."""
        frame: pl.DataFrame = self.once(
            "sampled", lambda: with_role(self.run.trajectories, SAMPLED_ROLES)
        )
        return frame

    @property
    def components(self) -> list[str]:
        """Reward components: ``reward_*`` columns of numbers that have values."""
        frame = self.sampled
        return [
            name
            for name in frame.columns
            if name.startswith("reward_")
            and frame[name].dtype.is_numeric()
            and frame[name].null_count() < len(frame)
        ]

    def need(self, *columns: str) -> pl.DataFrame:
        """`sampled`, which has these columns with values. Raises `Missing` with the reason."""
        frame = self.sampled
        for name in columns:
            if name not in frame.columns or frame[name].null_count() == len(frame):
                raise Missing(f"{name} is not logged")
        return frame

    def per_step(self, by_step: pl.DataFrame, column: str) -> Array:
        """(steps,) a column of a frame with one row a ``step``, aligned to `steps`."""
        joined = self.frame.select("step").join(by_step, on="step", how="left")
        return np.asarray(joined[column].cast(pl.Float64).fill_null(np.nan).to_numpy(), np.float64)

    def mean(self, column: str) -> Array:
        """(steps,) mean of a column over the sampled trajectories; finite values only."""
        frame = self.need(column).select("step", pl.col(column).cast(pl.Float64))
        frame = frame.filter(pl.col(column).is_finite())
        return self.per_step(frame.group_by("step").agg(pl.col(column).mean()), column)

    @property
    def parts(self) -> "WeightParts":
        """The log weights taken apart. Raises `Missing` where there are none."""
        found: WeightParts | str = self.once("parts", self._parts_or_reason)
        if isinstance(found, str):
            raise Missing(found)
        return found

    def _parts_or_reason(self) -> "WeightParts | str":
        try:
            return WeightParts(self)
        except Missing as reason:
            return str(reason)


class WeightParts:
    """Losses of the parts of the log weights, (steps,) each; NaN: not known."""

    def __init__(self, record: Record) -> None:
        if record.run.loss_ratio == "none":
            raise Missing("the loss has no importance ratio")
        updates = with_role(record.run.updates, SAMPLED_ROLES)
        if "log_weight" not in updates.columns or updates["log_weight"].is_null().all():
            raise Missing("log_weight is not logged")
        self.has_mismatch = (
            "log_weight_mismatch" in updates.columns
            and not updates["log_weight_mismatch"].is_null().all()
        )
        part = pl.col("log_weight_mismatch") if self.has_mismatch else pl.lit(0.0)
        frame = (
            updates.select(
                "step",
                "rank",
                "trajectory_id",
                pl.col("update").fill_null(0),
                pl.col("log_weight").cast(pl.Float64),
                part.cast(pl.Float64).fill_null(np.nan).alias("mismatch"),
            )
            .sort("step", "update", maintain_order=True)
            .group_by("step", "rank", "trajectory_id", maintain_order=True)
            .agg(
                pl.col("mismatch").first(),
                pl.col("log_weight").first().alias("first"),
                pl.col("log_weight").last().alias("last"),
                pl.len().alias("updates"),
            )
        )
        rows = []
        for key, step in frame.group_by("step", maintain_order=True):
            mismatch, first = step["mismatch"].to_numpy(), step["first"].to_numpy()
            last = step["last"].to_numpy()
            rows.append(
                {
                    "step": key[0],
                    "mismatch": loss(mismatch) if self.has_mismatch else np.nan,
                    "age": loss(first - mismatch),
                    "reuse": loss(last - first),
                    "whole": loss(last),
                    "updates": step["updates"].mean(),
                }
            )
        table = pl.DataFrame(rows)
        self.mismatch = record.per_step(table, "mismatch")
        self.age = record.per_step(table, "age")
        self.reuse = record.per_step(table, "reuse")
        self.whole = record.per_step(table, "whole")
        self.updates = record.per_step(table, "updates")


def loss(log_weights: Array) -> float:
    """``-ln ESS`` as a fraction, of finite log weights; NaN where more than half are not."""
    known = log_weights[np.isfinite(log_weights)]
    if known.size * 2 <= log_weights.size:
        return float("nan")
    try:
        return float(-np.log(estimators.ess(known) / known.size))
    except EstimatorInputError:
        return float("nan")


def open_record(source: Run | Monitor) -> Record:
    """The record of a run, or of what a monitor has read of one."""
    if isinstance(source, Monitor):
        return Record(source.run, source.timeline)
    run = open_run(source.path)
    return Record(run, build_timeline(run))


def window_means(values: Array, width: int = WINDOW) -> Array:
    """(n,) mean of the known values of the ``width`` entries that end at each; NaN where fewer
    than half are known."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.arange(1, values.size + 1)
    starts = np.maximum(ends - width, 0)
    count = counts[ends] - counts[starts]
    full = (ends >= width) & (2 * count >= width)
    total = sums[ends] - sums[starts]
    return np.where(full, total / np.maximum(count, 1), np.nan)


def thirds(values: Array) -> tuple[float, float, float]:
    """Medians of the known values in the early, middle and late third; NaN where none is known."""
    parts = np.array_split(values, 3)
    found = [float(np.median(p[np.isfinite(p)])) if np.isfinite(p).any() else np.nan for p in parts]
    return found[0], found[1], found[2]


def known_spread(values: Array) -> float:
    """Standard deviation of the finite values; 0.0 where there are fewer than two."""
    known = values[np.isfinite(values)]
    return float(known.std()) if known.size > 1 else 0.0


def known_mean(values: Array | Sequence[float]) -> float:
    """Mean of the finite values; NaN where there are none."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if array.size else float("nan")
