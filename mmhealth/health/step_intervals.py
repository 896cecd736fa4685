"""Intervals of the population's ESS and Gini at one step, for the rules that demand them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import PopulationInterval
from mmhealth.estimators.jackknife import MIN_GROUPS
from mmhealth.health.bases import BASES, Basis, Level, log_basis
from mmhealth.health.basis_rows import idle_trajectories
from mmhealth.health.ess_columns import UsedRows
from mmhealth.health.rows import Array, Collector, Missing, look_up
from mmhealth.runlog import StepData

Demand = tuple[str, float]
"""A metric of `INTERVAL_METRICS`, and the level of the interval asked for."""
Found = PopulationInterval | str
"""An interval, or why there is none. One with a ``why`` that is reliable all the same is that of
the groups that hold nothing (`mmhealth.estimators.zeros`); ``why`` then speaks of the jackknife."""

INTERVAL_METRICS = (
    *(f"ess_{basis}" for basis in BASES),
    *(f"ess_{basis}_update" for basis in BASES),
    "ess_signal_unsolved",
    "ess_contribution_unsolved",
    "gini_grad_norm",
    "gini_grad_norm_unsolved",
)
"""Metrics whose population has an interval."""


def step_intervals(
    demanded: Collection[Demand], data: StepData, level: Level, used: UsedRows, columns: Collector
) -> dict[Demand, Found]:
    """What is demanded of a step, over the rows that the batch values in ``columns`` are of.

    Each is jackknifed by group. Where that is unreliable and some groups hold nothing, what follows
    from their number alone stands in its place.
    """
    if not demanded:
        return {}
    found: dict[Demand, Found] = {}
    rows = _Grouped(data, level, used, columns)
    for metric, confidence in sorted(demanded):
        try:
            found[metric, confidence] = rows.interval(metric, confidence)
        except (Missing, EstimatorInputError) as reason:
            found[metric, confidence] = str(reason)
    return found


def without_signal(intervals: Mapping[Demand, Found], reason: str) -> dict[Demand, Found]:
    """The same with those of the signal basis unknown for this reason."""
    return {
        demand: reason if demand[0].startswith("ess_signal") else found
        for demand, found in intervals.items()
    }


@dataclass(frozen=True)
class _Grouped:
    """Rows of one step with their groups, each looked up once."""

    data: StepData
    level: Level
    used: UsedRows
    columns: Collector

    def interval(self, metric: str, confidence: float) -> PopulationInterval:
        """Raises Missing or EstimatorInputError where there is none."""
        if self.columns.values[metric] is None:
            raise Missing(self.columns.reasons[metric])
        behind = self.columns.rows[metric]
        by_group: Callable[..., PopulationInterval]
        by_zeros: Callable[..., PopulationInterval]
        if metric.startswith("gini"):
            values, groups = self._norms(unsolved=metric.endswith("_unsolved"))
            by_group, by_zeros = estimators.gini_interval, estimators.gini_interval_from_zeros
        else:
            _, basis, *variant = metric.split("_")
            values, groups = self._log_values(_BASIS[basis], *variant, behind=behind)
            by_group, by_zeros = estimators.ess_interval, estimators.ess_interval_from_zeros
        if len(values) != behind:
            counts = f"{len(values)} of {behind} rows"
            raise Missing(f"{counts} behind the metric can be told by trajectory_id")
        ids = groups.rank("dense").to_numpy()
        return reliable_interval(
            partial(by_group, values, ids, level=confidence),
            partial(by_zeros, values, ids, level=confidence),
        )

    def _norms(self, *, unsolved: bool) -> tuple[Array, pl.Series]:
        values = self.used.sampled.numbers("grad_norm")
        keep = np.isfinite(values)
        if unsolved:
            keep &= self._unsolved
        return values[keep], self._groups.filter(pl.Series(keep))

    def _log_values(
        self, basis: Basis, variant: str = "", *, behind: int
    ) -> tuple[Array, pl.Series]:
        """Of ``behind`` rows: what those of updates lack entered none, and holds nothing."""
        if variant == "update":
            rows = self.level.as_multiplied(self.used.update)
            values, groups = log_basis(basis, self.level, rows), self._groups_of(rows.frame)
        else:
            values, groups = log_basis(basis, self.level, self.used.sampled), self._groups
        keep = ~(np.isnan(values) | np.isposinf(values))
        if variant == "unsolved":
            keep &= self._unsolved
        values, groups = values[keep], groups.filter(pl.Series(keep))
        if len(values) >= behind:
            return values, groups
        idle = self._idle
        if variant == "unsolved" and self.used.outcomes.table is not None:
            outcome = look_up(idle, self.used.outcomes.table, "outcome")
            idle = idle.filter(outcome.fill_null(0.0) < 1)
        nothing = np.full(len(idle), -np.inf)
        return np.concatenate([values, nothing]), pl.concat([groups, self._groups_of(idle)])

    @cached_property
    def _groups(self) -> pl.Series:
        return self._groups_of(self.used.sampled.frame)

    @cached_property
    def _unsolved(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        assert self.used.outcomes.used is not None
        return np.asarray(self.used.outcomes.used < 1)

    @cached_property
    def _idle(self) -> pl.DataFrame:
        keys = ["rank", "trajectory_id"]
        rows = self.data.trajectories.unique(keys, keep="last", maintain_order=True)
        return idle_trajectories(rows, self.used.sampled.frame, self.data)

    def _groups_of(self, rows: pl.DataFrame) -> pl.Series:
        if "group_id" not in self.data.trajectories.columns:
            raise Missing("group_id is not logged, and rows of one prompt are not independent")
        found = look_up(rows, self.data.trajectories, "group_id")
        if nulls := found.null_count():
            raise Missing(f"group_id is missing in {nulls} of {len(found)} rows")
        return found


_BASIS: dict[str, Basis] = {str(basis): basis for basis in BASES}


def reliable_interval(
    by_group: Callable[[], PopulationInterval], by_zeros: Callable[[], PopulationInterval]
) -> PopulationInterval:
    """That by group where it is reliable or zeros say nothing, else that by zeros.

    Raises EstimatorInputError where there is none.
    """
    found: PopulationInterval | None = None
    try:
        found = by_group()
        why = found.why
    except EstimatorInputError as reason:
        why = str(reason)
    if found is not None and found.reliable:
        return found
    try:
        exact = by_zeros()
    except EstimatorInputError:
        exact = None
    if exact is not None and exact.groups >= MIN_GROUPS and exact.high - exact.low < 1:
        return replace(exact, why=why)
    if found is None:
        raise EstimatorInputError(why)
    return found
