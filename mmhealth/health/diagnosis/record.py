"""What a diagnosis reads of a run: one row a step, and reasons for what is not there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mmhealth.health.diagnosis.readings import Readings, merge_readings
from mmhealth.health.monitor import Monitor
from mmhealth.health.rows import Array, Missing
from mmhealth.health.step_reading import StepReading
from mmhealth.health.timeline import Timeline, build_timeline
from mmhealth.runlog import Run, open_run

WINDOW = 10
"""Steps over which evidence is averaged: what lasts shorter is no mode of a run."""
FEWEST_STEPS = 15
"""A run with fewer steps has no course to read."""
METRICS = (
    "nonfinite",
    "reward",
    "success_rate",
    "entropy",
    "strategic_entropy",
    "violated_share",
    "retreat_share",
    "stuck_share",
    "solved_group_share",
    "failed_group_share",
    "dead_group_share_unsolved",
)
"""What signs ask of the timeline."""


@dataclass(frozen=True, slots=True)
class WeightParts:
    """Losses of the parts of the log weights (`mmhealth.health.weight_parts`), (steps,) each; NaN:
    not known."""

    has_mismatch: bool
    mismatch: Array
    age: Array
    reuse: Array
    updates: Array
    """Mean number of updates of a trajectory."""


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
        """(steps,) one of `METRICS`. Raises `Missing` where it is never known."""
        values = self.frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
        if np.isnan(values).all():
            why = next((self.timeline.reason(int(s), name) for s in self.steps[-1:]), None)
            raise Missing(why or f"{name} is not known")
        return values

    @property
    def unread(self) -> int:
        """Steps whose rows were reduced, and of which nothing was kept that signs are read from."""
        return sum(reading is None for _, reading in self._read)

    def nonfinite_at(self, step: int) -> tuple[str, ...]:
        """Columns of a step in which values are NaN or infinite."""
        read = next((reading for number, reading in self._read if number == step), None)
        return () if read is None else read.nonfinite

    @property
    def known(self) -> frozenset[str]:
        """Columns of trajectories that signs are read from and that have values."""
        return frozenset(name for _, r in self._read if r is not None for name in r.known)

    @property
    def components(self) -> list[str]:
        """Reward components: ``reward_*`` columns of numbers that have values."""
        return self.readings.components

    def need(self, *columns: str) -> None:
        """Raises `Missing` with the reason unless these columns are `known`."""
        known: frozenset[str] = self.once("known", lambda: self.known)
        for name in columns:
            if name not in known:
                raise Missing(f"{name} is not logged")

    @property
    def readings(self) -> Readings:
        """What was read of the sampled trajectories."""

        def merge() -> Readings:
            read = {step: reading for step, reading in self._read if reading is not None}
            schema = self.run.schema("trajectories")
            return merge_readings(read, schema, float(np.quantile(self.steps, 1 / 3)))

        found: Readings = self.once("readings", merge)
        return found

    @property
    def _read(self) -> list[tuple[int, StepReading | None]]:
        """The reading of each step, in order."""

        def read() -> list[tuple[int, StepReading | None]]:
            source = self.timeline
            if not source.readings:
                source = build_timeline(open_run(self.run.path), (), source.engine, readings=True)
            held = {key: metrics.reading for key, metrics in source.lived.items()}
            keys = [key for key, _ in self.timeline.visible()]
            return [(key.step, held[key]) for key in keys if key in held]

        found: list[tuple[int, StepReading | None]] = self.once("read", read)
        return found

    def reading(self, column: str) -> Array:
        """(steps,) a column of `Readings.by_step`."""
        steps, found = self.frame.select("step"), self.readings.by_step
        if column not in found.columns:
            return np.full(len(self), np.nan)
        joined = steps.join(found, on="step", how="left", maintain_order="left")
        return np.asarray(joined[column].fill_null(np.nan).to_numpy(), np.float64)

    def mean(self, column: str) -> Array:
        """(steps,) mean of a column over the sampled trajectories; finite values only."""
        self.need(column)
        return self.reading(f"mean {column}")

    @property
    def parts(self) -> WeightParts:
        """The log weights taken apart. Raises `Missing` where there are none."""
        if self.run.loss_ratio == "none":
            raise Missing("the loss has no importance ratio")
        if "updates" not in self.readings.by_step.columns:
            raise Missing("log_weight is not logged")
        mismatch, age = self.reading("mismatch"), self.reading("age")
        has_mismatch = "mismatch" in self.readings.by_step.columns
        if has_mismatch:
            age = np.where(np.isnan(mismatch), np.nan, age)
        return WeightParts(
            has_mismatch, mismatch, age, self.reading("reuse"), self.reading("updates")
        )


def open_record(source: Run | Monitor) -> Record:
    """The record of a run, or of what a monitor has read of one."""
    if isinstance(source, Monitor):
        return Record(source.run, source.timeline)
    run = open_run(source.path)
    return Record(run, build_timeline(run, METRICS, readings=True))


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
