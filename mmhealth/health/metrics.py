"""One step in, its row of the timeline out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.baseline_gap import baseline_gap
from mmhealth.health.bases import BASES, Level
from mmhealth.health.concentration import concentration
from mmhealth.health.ess_columns import UsedRows, count_sampled, ess_columns, ess_per_update
from mmhealth.health.gradient_noise import noise_columns
from mmhealth.health.logged_means import logged_mean, nonfinite_means
from mmhealth.health.outcomes import (
    BY_OUTCOME,
    Outcomes,
    group_outcomes,
    retreat_share,
    stuck_share,
    success_rate,
)
from mmhealth.health.rows import (
    Array,
    Collector,
    Measured,
    Missing,
    Rows,
    as_floats,
    last_update,
    present,
    with_role,
    with_roles,
)
from mmhealth.health.second_moments import by_slice
from mmhealth.health.step_intervals import Demand, Found, step_intervals, without_signal
from mmhealth.health.step_reading import StepReading
from mmhealth.runlog import StepData
from mmhealth.schema import SAMPLED_ROLES, UPDATE_ROLES

_COUNTED = {
    "trajectories": ("reward", "entropy", "kl_ref"),
    "updates": ("advantage", "log_weight", "weight_used", "grad_norm"),
}
"""Columns whose non-finite values are counted; -inf is a legitimate log weight."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Metrics of one step; what could not be known is None, with the reason."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows behind a metric, where that is not every sampled row; see `rows_behind`."""
    updates: list[dict[str, Any]] = field(default_factory=list)
    """ESS of every update on its own."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Second moments of the gradient by source."""
    has_weights: bool = False
    """The loss weighs trajectories and at least one row has its log weight."""
    assumes_weights: bool = False
    """The loss weighs trajectories, no row has a log weight, and the signal basis took 1."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """What the reference run had at the same step; empty where there is none."""
    is_history: bool = False
    """It serves baselines only: the step is of an attempt before those that are judged."""
    intervals: Mapping[Demand, Found] = field(default_factory=dict)
    """Intervals of the population, those that were demanded; or why there is none."""
    reading: StepReading | None = None
    """What a diagnosis reads of the step, where that was asked for."""

    def rows_behind(self, metric: str) -> int:
        """How many rows a metric describes."""
        return self.rows.get(metric, int(self.values["n"] or 0))

    def without_signal(self, reason: str) -> "StepMetrics":
        """The same step with the signal basis unknown for this reason."""
        lost = [
            name
            for name, value in self.values.items()
            if name.startswith("ess_signal") and name != "ess_signal_ceiling" and value is not None
        ]
        return replace(
            self,
            values=self.values | dict.fromkeys(lost),
            reasons=self.reasons | dict.fromkeys(lost, reason),
            rows={name: count for name, count in self.rows.items() if name not in lost},
            updates=[update | {"ess_signal": None} for update in self.updates],
            intervals=without_signal(self.intervals, reason),
        )


def step_metrics(
    data: StepData,
    loss_ratio: str,
    demanded: Collection[Demand] = (),
    wanted: Collection[str] | None = None,
) -> StepMetrics:
    """The metrics of one step that are wanted, or all, and the intervals that are demanded.

    Reward, success, entropy and groups are taken over sampled rows; ESS, Gini and tail over sampled
    rows, each as it entered its last update, and ``*_update`` over rows that entered an update.
    A sampled trajectory that entered no update counts as one that contributes nothing in the ESS of
    signal and contribution. ``*_unsolved`` leaves out the groups that are solved. Of a step without
    trajectories reward, entropy and kl_ref are the scalars of that name, where they are logged.
    """
    if wanted is not None:
        wanted = with_bases(wanted, demanded)
    out = Collector(wanted)
    sampled = Rows(with_role(data.trajectories, SAMPLED_ROLES), "sampled")
    last = last_update(data.updates)
    of_sampled, of_update = with_roles(last, SAMPLED_ROLES, UPDATE_ROLES)
    used_sampled, used_update = Rows(of_sampled, "sampled"), Rows(of_update, "update")
    out.values |= {
        "step": data.step,
        "attempt": data.attempt,
        "n": len(sampled),
        "nominal_batch": data.nominal_batch,
        "complete": data.complete,
        "data_gap": _data_gap(data),
        "time": data.committed,
    }
    level = Level(loss_ratio, data)
    outcomes = Outcomes()
    if demanded or out.wants(*BY_OUTCOME):
        outcomes = group_outcomes(sampled, used_sampled, out)
    used = UsedRows(used_sampled, used_update, count_sampled(data, sampled), outcomes)
    ess_columns(out, level, used, data.nominal_batch)
    concentration(out, level, used_sampled, outcomes.used)
    noise_columns(out, data, last)
    out.put("baseline_gap", lambda: baseline_gap(data, used_update))
    out.put("entropy", lambda: logged_mean(data, "entropy") or _token_mean(sampled, "entropy"))
    out.put("strategic_entropy", lambda: _mean(sampled.present("strategic_entropy")))
    out.put("kl_ref", lambda: logged_mean(data, "kl_ref") or _token_mean(sampled, "kl_ref"))
    out.put("violated_share", lambda: _mean(sampled.present("violated")))
    out.put("retreat_share", lambda: retreat_share(sampled))
    out.put("stuck_share", lambda: stuck_share(sampled))
    out.put("reward", lambda: logged_mean(data, "reward") or _mean(sampled.present("reward")))
    out.put("reward_pending", lambda: _null_share(sampled, "reward"))
    out.put("success_rate", lambda: success_rate(sampled))
    out.put("log_ratio_p95", lambda: _p95(data, "log_ratio_histogram"))
    out.put("log_ratio_p95_tool", lambda: _p95(data, "log_ratio_tool_histogram"))
    out.put("nonfinite", lambda: _nonfinite(data))
    every_basis = all(out.wants(f"ess_{basis}") for basis in BASES)
    return StepMetrics(
        out.values,
        out.reasons,
        out.rows,
        ess_per_update(data, level, used, out) if every_basis else [],
        _by_source(data, used_update) if wanted is None else [],
        has_weights=level.has_weights,
        assumes_weights=level.weighs and not level.has_weights,
        intervals=step_intervals(demanded, data, level, used, out),
    )


def with_bases(wanted: Collection[str], demanded: Collection[Demand]) -> frozenset[str]:
    """The metrics that are computed for those ``wanted``, and for intervals: a share of the nominal
    batch is made of that of the rows."""
    bases = (name.removesuffix("_nominal") for name in wanted)
    return frozenset({*wanted, *bases, *(metric for metric, _ in demanded)})


def _by_source(data: StepData, rows: Rows) -> list[dict[str, Any]]:
    about = {"step": data.step, "attempt": data.attempt}
    try:
        found = by_slice(data, rows, "source")
    except (Missing, EstimatorInputError):
        return []
    return [about | {"source": row.pop("slice")} | row for row in found]


def _data_gap(data: StepData) -> float:
    """Share of the step that is missing: ranks that did not commit, rows that cannot be read."""
    ranks = 1 - len(data.ranks) / max(data.ranks_expected, len(data.ranks))
    rows = len(data.trajectories) + len(data.updates)
    lost = data.rows_missing / (rows + data.rows_missing) if data.rows_missing else 0.0
    return 1 - (1 - ranks) * (1 - lost)


def _token_mean(rows: Rows, column: str) -> Measured:
    values = rows.present(column)
    for weights in ("token_count", "length"):
        try:
            counts = rows.numbers(weights)
        except Missing:
            continue
        if values.size < len(rows):
            counts = counts[np.isfinite(as_floats(rows.frame[column]))]
        if counts.any():
            return Measured(estimators.token_mean(values, counts), values.size)
    return _mean(values)


def _mean(values: Array) -> Measured:
    return Measured(float(np.sum(np.sort(values)) / values.size), values.size)


def _null_share(rows: Rows, column: str) -> float:
    if column not in rows.frame.columns:
        raise Missing(f"{column} is not logged")
    if not len(rows):
        raise Missing(f"no {rows.what} rows")
    return rows.frame[column].null_count() / len(rows)


def _p95(data: StepData, name: str) -> float:
    if name not in data.histograms:
        raise Missing("token log-ratios are not logged")
    return estimators.histogram_percentile(data.histograms[name], 95)


def _nonfinite(data: StepData) -> Measured:
    """NaN and infinities in the columns that matter, and among the token log-ratios."""
    logged = nonfinite_means(data)
    count = int(logged.value)
    for table, columns in _COUNTED.items():
        frame = data.trajectories if table == "trajectories" else data.updates
        for column in columns:
            if column in frame.columns:
                values = present(frame[column])
                if np.isfinite(values).all():
                    continue
                found = estimators.count_nonfinite(values)
                count += found.total - (found.neginf if column == "log_weight" else 0)
    if (histogram := data.histograms.get("log_ratio_histogram")) is not None:
        count += estimators.nonfinite_tokens(histogram)
    return Measured(count, max(len(data.trajectories), len(data.updates), logged.rows))
