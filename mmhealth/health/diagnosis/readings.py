"""What the readings of single steps add up to for the signs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mmhealth.health.rows import Array
from mmhealth.health.step_reading import StepReading, triangle


@dataclass(frozen=True, slots=True)
class Fit:
    """Rows of numbers, as what least squares take of them."""

    rows: int
    sums: Array
    """(columns,)"""
    r: Array
    """(columns, columns): see `mmhealth.health.step_reading.triangle`."""

    def spreads(self) -> Array:
        """(columns,) standard deviations; of one row at least."""
        mean = self.sums / self.rows
        variance: Array = (self.r**2).sum(0) / self.rows - mean**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)), np.float64)

    def coefficients(self) -> Array:
        """(columns - 1,) coefficients of the other columns that fit the first best; of several the
        shortest."""
        nothing = float(np.finfo(np.float64).eps) * max(self.rows, len(self.r) - 1)
        return np.asarray(np.linalg.lstsq(self.r[:, 1:], self.r[:, 0], nothing)[0], np.float64)


@dataclass(frozen=True, slots=True)
class Readings:
    """What all steps say."""

    components: list[str]
    """Reward components, in the order in which they were first logged."""
    by_step: pl.DataFrame
    """One row a ``step``, with the numbers of `StepReading` that any step has, and ``flat``: the
    share of the groups of two trajectories or more in which no reward component differs."""
    horizons: list[int]
    """All that trajectories were sampled with, ascending."""
    violations: Fit
    """Of ``reward``, ``violated`` and the components around their means within groups, up to the
    step asked for."""


def merge_readings(read: Mapping[int, StepReading], types: pl.Schema, fit_to: float) -> Readings:
    """Put steps together.

    ``types`` are those of the columns over the whole run: what is no number in some step is no
    reward component. Steps up to ``fit_to`` are in `Readings.violations`.
    """
    logged = dict.fromkeys(name for reading in read.values() for name in reading.components)
    components = [name for name in logged if name not in types or types[name].is_numeric()]
    names = dict.fromkeys(name for reading in read.values() for name in reading.names)
    schema = {"step": pl.Int64, **dict.fromkeys((*names, "flat"), pl.Float64)}
    rows = [
        {"step": step, **reading.numbers, "flat": _flat(reading, components)}
        for step, reading in read.items()
    ]
    horizons = {turns for reading in read.values() for turns in reading.horizons}
    early = [reading for step, reading in read.items() if step <= fit_to]
    return Readings(
        components,
        pl.DataFrame(rows, schema).with_columns(pl.col(pl.Float64).fill_nan(None)),
        sorted(horizons),
        _fit(early, ["reward", "violated", *components]),
    )


def _flat(reading: StepReading, components: list[str]) -> float | None:
    """A component that a step lacks is alike in none of its groups."""
    numbers = reading.numbers
    of = "" if components else " reward"
    same, differ = numbers.get(f"same{of}", 0.0), numbers.get(f"differ{of}", 0.0)
    if set(reading.components) != set(components) and components:
        same = 0.0
    return same / (same + differ) if same + differ else None


def _fit(read: list[StepReading], names: list[str]) -> Fit:
    rows, sums, parts = 0, np.zeros(len(names)), [np.empty((0, len(names)))]
    for reading in read:
        numbers = reading.numbers
        if "fit rows" not in numbers or set(reading.components) != set(names[2:]):
            continue
        rows += int(numbers["fit rows"])
        sums += [numbers[f"fit sum {name}"] for name in names]
        own = ["reward", "violated", *reading.components]
        r = [[numbers.get(f"fit {one} {other}", 0.0) for other in names] for one in own]
        parts.append(np.array(r))
    return Fit(rows, sums, triangle(np.vstack(parts)))
