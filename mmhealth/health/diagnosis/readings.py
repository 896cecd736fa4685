"""What the signs need of the sampled trajectories, from one pass over them.

It goes window by window, so that memory does not grow with the rows. What is kept is one row a
step, the horizons, and the triangle of one least squares fit; it alone depends on where windows
end, in its last bits.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from mmhealth.health.diagnosis.sampled import SampledRows
from mmhealth.health.rows import Array

MEANS = ("reward", "behavior_lag", "subagents", "turns", "serial")
"""Columns whose means signs ask for, beside the reward components."""
COLUMNS = (*MEANS, "success", "violated", "group_id", "horizon")
SAME = 1e-6
"""Range of a component, relative to its largest value, below which it is the same for a group."""

_GROUP = ("step", "group_id")


@dataclass(slots=True)
class Readings:
    """What one pass found."""

    by_step: pl.DataFrame
    """One row a ``step``; which columns there are depends on what is logged:

    - ``mean NAME``: mean of the finite values
    - ``groups``: groups of two trajectories or more; ``flat``: the share of these in which no
      reward component differs
    - ``wide``: share of the trajectories that start more than one sub-agent
    - ``told NAME aa``, ``bb``, ``ab``: squares and products of success (a) and a component (b)
      around their means within groups, summed
    - ``use success aa``, ``bb``, ``ab``: the same of success and sub-agents, within groups of one
      horizon; ``use reward ...``: of reward and sub-agents among trajectories of one outcome there
    """
    horizons: list[int]
    """All that trajectories were sampled with, ascending."""
    violations: "Triangle"
    """Of ``reward``, ``violated`` and the components around their means within groups, up to the
    step asked for."""


@dataclass(slots=True)
class Triangle:
    """Rows of numbers in parts, as R of their QR decomposition: what least squares take of them.

    R of the rows so far stands in for them: Demmel, Grigori, Hoemmen and Langou 2012, SIAM J. Sci.
    Comput. 34(1), sequential TSQR. So it is as exact as all rows at once.
    """

    columns: int
    rows: int = 0
    _sums: Array = field(init=False)
    _r: Array = field(init=False)

    def __post_init__(self) -> None:
        self._sums, self._r = np.zeros(self.columns), np.empty((0, self.columns))

    def add(self, part: Array) -> None:
        """Take in rows, (n, columns)."""
        self.rows += len(part)
        self._sums += part.sum(0)
        self._r = np.asarray(np.linalg.qr(np.vstack([self._r, part]), mode="r"), np.float64)

    def spreads(self) -> Array:
        """(columns,) standard deviations; of one row at least."""
        mean = self._sums / self.rows
        variance: Array = (self._r**2).sum(0) / self.rows - mean**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)), np.float64)

    def coefficients(self) -> Array:
        """(columns - 1,) coefficients of the other columns that fit the first best; of several the
        shortest."""
        nothing = float(np.finfo(np.float64).eps) * max(self.rows, self.columns - 1)
        return np.asarray(np.linalg.lstsq(self._r[:, 1:], self._r[:, 0], nothing)[0], np.float64)


def read_trajectories(
    rows: SampledRows, components: Sequence[str], known: Collection[str], fit_to: float
) -> Readings:
    """One pass over trajectories.

    ``known`` are those of `COLUMNS` that have values, and the reward ``components``; rows of steps
    up to ``fit_to`` are in `Readings.violations`.
    """
    found: list[pl.DataFrame] = []
    horizons: set[int] = set()
    names = ["reward", "violated", *components]
    fits = {"group_id", "reward", "violated"} <= set(known)
    triangle = Triangle(len(names))
    for window in rows.windows(known):
        numbers = window.with_columns(pl.col(_numeric(window)).cast(pl.Float64))
        found.append(_by_step(numbers, components, frozenset(known)))
        if "horizon" in known:
            horizons.update(map(int, window["horizon"].drop_nulls().unique()))
        early = numbers.filter(pl.col("step") <= fit_to) if fits else numbers.clear()
        if not early.is_empty():
            around = _around_means(_finite(early, names), names, _GROUP)
            triangle.add(around.drop("step").to_numpy())
    table = pl.concat(found) if found else pl.DataFrame(schema={"step": pl.Int64})
    return Readings(table, sorted(horizons), triangle)


def _numeric(window: pl.DataFrame) -> list[str]:
    return [
        name
        for name, dtype in window.schema.items()
        if name not in ("step", "group_id", "horizon")
        and (dtype.is_numeric() or dtype == pl.Boolean)
    ]


def _by_step(rows: pl.DataFrame, components: Sequence[str], known: frozenset[str]) -> pl.DataFrame:
    """One row a step of a window; see `Readings.by_step`."""
    means = [name for name in dict.fromkeys([*MEANS, *components]) if name in known]
    parts = [
        rows.group_by("step", maintain_order=True).agg(
            *(
                pl.col(name).filter(pl.col(name).is_finite()).mean().alias(f"mean {name}")
                for name in means
            ),
            *([(pl.col("subagents") > 1).mean().alias("wide")] if "subagents" in known else []),
        )
    ]
    if {"group_id", "reward"} <= known:
        parts.append(_flat(rows, components or ["reward"]))
    if {"group_id", "success"} <= known:
        for name in components:
            both = _finite(rows, ["success", name])
            parts.append(_products(both, "success", name, _GROUP, f"told {name}"))
    if {"group_id", "success", "reward", "subagents"} <= known:
        keys = [*_GROUP, *(["horizon"] if "horizon" in known else [])]
        whole = _finite(rows, ["subagents", "success", "reward"])
        parts.append(_products(whole, "success", "subagents", keys, "use success"))
        keys.append("success")
        parts.append(_products(whole, "reward", "subagents", keys, "use reward"))
    table = parts[0]
    for part in parts[1:]:
        table = table.join(part, on="step", how="left", maintain_order="left")
    return table


def _flat(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    spans = [
        (pl.col(name).max() - pl.col(name).min())
        <= SAME * pl.max_horizontal(pl.col(name).abs().max(), pl.lit(1e-12))
        for name in names
    ]
    groups = rows.group_by(_GROUP).agg(flat=pl.all_horizontal(spans), rows=pl.len())
    several = groups.filter(pl.col("rows") > 1)
    return several.group_by("step").agg(pl.col("flat").mean(), groups=pl.len())


def _products(rows: pl.DataFrame, a: str, b: str, keys: Sequence[str], name: str) -> pl.DataFrame:
    """Squares and products of two columns around their means by ``keys``, summed over each step."""
    around = _around_means(rows, [a, b], keys)
    return around.group_by("step").agg(
        (pl.col(one) * pl.col(two)).sum().alias(f"{name} {which}")
        for which, one, two in (("aa", a, a), ("bb", b, b), ("ab", a, b))
    )


def _around_means(rows: pl.DataFrame, names: Sequence[str], keys: Sequence[str]) -> pl.DataFrame:
    return rows.select("step", *(pl.col(name) - pl.col(name).mean().over(keys) for name in names))


def _finite(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The rows in which all of these are finite."""
    return rows.filter(pl.all_horizontal(pl.col(name).is_finite() for name in names))
