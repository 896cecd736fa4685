"""What a diagnosis reads of a run: one row a step, and reasons for what is not there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mmhealth.health.diagnosis.readings import COLUMNS, Readings, read_trajectories
from mmhealth.health.diagnosis.sampled import SampledRows
from mmhealth.health.diagnosis.weights import WeightParts, read_weights
from mmhealth.health.monitor import Monitor
from mmhealth.health.rows import Array, Missing
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
    def known(self) -> frozenset[str]:
        """The reward components, and those of `COLUMNS`, that have values."""
        found: frozenset[str] = self.once(
            "known", lambda: self._trajectories.known([*COLUMNS, *self._components])
        )
        return found

    @property
    def components(self) -> list[str]:
        """Reward components: ``reward_*`` columns of numbers that have values."""
        return [name for name in self._components if name in self.known]

    def need(self, *columns: str) -> None:
        """Raises `Missing` with the reason unless these columns are `known`."""
        for name in columns:
            if name not in self.known:
                raise Missing(f"{name} is not logged")

    @property
    def readings(self) -> Readings:
        """What was read of the sampled trajectories."""

        def read() -> Readings:
            first_third = float(np.quantile(self.steps, 1 / 3))
            return read_trajectories(self._trajectories, self.components, self.known, first_third)

        found: Readings = self.once("readings", read)
        return found

    @property
    def _trajectories(self) -> SampledRows:
        found: SampledRows = self.once(
            "trajectories", lambda: SampledRows(self.run, "trajectories")
        )
        return found

    @property
    def _components(self) -> list[str]:
        schema = self._trajectories.schema
        return [n for n, t in schema.items() if n.startswith("reward_") and t.is_numeric()]

    def reading(self, column: str) -> Array:
        """(steps,) a column of `Readings.by_step`."""
        steps, found = self.frame.select("step"), self.readings.by_step
        joined = steps.join(found, on="step", how="left", maintain_order="left")
        return np.asarray(joined[column].cast(pl.Float64).fill_null(np.nan).to_numpy(), np.float64)

    def mean(self, column: str) -> Array:
        """(steps,) mean of a column over the sampled trajectories; finite values only."""
        self.need(column)
        return self.reading(f"mean {column}")

    @property
    def parts(self) -> WeightParts:
        """The log weights taken apart. Raises `Missing` where there are none."""

        def read() -> WeightParts | str:
            try:
                return read_weights(self.run, self.frame["step"])
            except Missing as reason:
                return str(reason)

        found: WeightParts | str = self.once("parts", read)
        if isinstance(found, str):
            raise Missing(found)
        return found


def open_record(source: Run | Monitor) -> Record:
    """The record of a run, or of what a monitor has read of one."""
    if isinstance(source, Monitor):
        return Record(source.run, source.timeline)
    run = open_run(source.path)
    return Record(run, build_timeline(run, METRICS))


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
