"""One step in, its row of the timeline out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.bases import (
    BASES,
    ON_POLICY,
    Basis,
    Level,
    fraction,
    log_basis,
    signal_ceiling,
    unsolved,
    weight_ess,
)
from mmhealth.health.rows import Array, Collector, Missing, Rows, last_update, look_up, with_role
from mmhealth.runlog import StepData
from mmhealth.schema import SAMPLED_ROLES, UPDATE_ROLES

_COUNTED = {
    "trajectories": ("reward", "entropy", "kl_ref"),
    "updates": ("advantage", "log_weight", "weight_used", "grad_norm"),
}
"""Columns whose non-finite values are counted; -inf is a legitimate log weight."""


@dataclass(slots=True)
class StepMetrics:
    """Metrics of one step; what could not be known is None, with the reason."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    """ESS of every update on its own."""


def step_metrics(data: StepData, loss_ratio: str) -> StepMetrics:
    """All metrics of one step.

    Reward, success, entropy and groups are taken over sampled rows; ESS, Gini and tail over sampled
    rows, each as it entered its last update, and ``*_update`` over rows that entered an update.
    ``*_unsolved`` leaves out the groups that are solved.
    """
    out = Collector()
    sampled = Rows(with_role(data.trajectories, SAMPLED_ROLES), "sampled")
    last = last_update(data.updates)
    used_sampled = Rows(with_role(last, SAMPLED_ROLES), "sampled")
    used_update = Rows(with_role(last, UPDATE_ROLES), "update")
    out.values |= {
        "step": data.step,
        "attempt": data.attempt,
        "n": len(sampled),
        "nominal_batch": data.nominal_batch,
        "complete": data.complete,
        "data_gap": _data_gap(data),
        "time": data.committed,
    }
    outcome = _outcomes(sampled, used_sampled, out)
    level = Level(loss_ratio, data.trajectories)
    used = _Used(used_sampled, used_update, outcome)
    for basis in BASES:
        out.absorb(_ess_columns(basis, level, used, data.nominal_batch))
    out.put("ess_signal_ceiling", lambda: signal_ceiling(used_sampled))
    out.put("ess_weight_other", lambda: _other_level(level, used_sampled))
    _concentration(level, used_sampled, outcome, out)
    out.put("entropy", lambda: _token_mean(sampled, "entropy"))
    out.put("kl_ref", lambda: _token_mean(sampled, "kl_ref"))
    out.put("reward", lambda: _mean(sampled.present("reward")))
    out.put("reward_pending", lambda: _null_share(sampled, "reward"))
    out.put("success_rate", lambda: _mean(sampled.present("success")))
    out.put("log_ratio_p95", lambda: _p95(data, "log_ratio_histogram"))
    out.put("log_ratio_p95_tool", lambda: _p95(data, "log_ratio_tool_histogram"))
    out.values["nonfinite"] = _nonfinite(data)
    return StepMetrics(out.values, out.reasons, _per_update(data, level, out))


def _data_gap(data: StepData) -> float:
    """Share of the step that is missing: ranks that did not commit, rows that cannot be read."""
    ranks = 1 - len(data.ranks) / max(data.ranks_expected, len(data.ranks))
    rows = len(data.trajectories) + len(data.updates)
    lost = data.rows_missing / (rows + data.rows_missing) if data.rows_missing else 0.0
    return 1 - (1 - ranks) * (1 - lost)


@dataclass(frozen=True, slots=True)
class _Used:
    """Rows of the updates table, each as it entered its last update."""

    sampled: Rows
    update: Rows
    outcome: Array | None
    """For each sampled row 1 (its group is solved), -1 (failed) or 0; None when not known."""


def _ess_columns(basis: Basis, level: Level, used: _Used, nominal: int | None) -> Collector:
    out = Collector()
    name = f"ess_{basis}"

    def whole(rows: Rows) -> float:
        if basis == "weight":
            return level.ess(rows)
        return fraction(log_basis(basis, level, rows))

    def of_nominal() -> float:
        if name in out.reasons:
            raise Missing(out.reasons[name])
        if not nominal:
            raise Missing("nominal_batch is not logged")
        return float(out.values[name] * len(used.sampled) / nominal)

    out.put(name, lambda: whole(used.sampled))
    out.put(f"{name}_update", lambda: whole(used.update))
    out.put(f"{name}_nominal", of_nominal)
    if basis != "weight":
        out.put(
            f"{name}_unsolved",
            lambda: fraction(unsolved(log_basis(basis, level, used.sampled), used.outcome)),
        )
    return out


def _other_level(level: Level, rows: Rows) -> float:
    """Weight ESS at the level that the loss does not use: shown, never judged."""
    if level.loss_ratio == "token":
        return weight_ess(level.log_weights(rows, level="sequence"))
    return level.token_ess(rows)


def _concentration(level: Level, rows: Rows, outcome: Array | None, out: Collector) -> None:
    def norms() -> Array:
        values = rows.numbers("grad_norm")
        return values[np.isfinite(values)]

    def log_weights() -> Array:
        values = level.log_weights(rows)
        if not np.any(values):
            raise Missing(ON_POLICY)
        return values[~(np.isnan(values) | np.isposinf(values))]

    def unsolved_gini() -> float:
        left = unsolved(rows.numbers("grad_norm"), outcome)
        return estimators.gini(left[np.isfinite(left)])

    out.put("gini_grad_norm", lambda: estimators.gini(norms()))
    out.put("gini_grad_norm_unsolved", unsolved_gini)
    out.put("top5_share", lambda: estimators.top_share(norms(), 0.05))
    out.put("weight_khat", lambda: estimators.pareto_khat(log_weights()))
    out.put("weight_khat_limit", lambda: estimators.khat_threshold(len(log_weights())))
    out.put("max_weight_share", lambda: estimators.max_weight_share(log_weights()))


def _outcomes(sampled: Rows, used: Rows, out: Collector) -> Array | None:
    """Put the group shares; return for each used row 1 (its group is solved), -1 (failed) or 0."""
    names = ("solved_group_share", "failed_group_share", "dead_group_share")
    try:
        success = _success(sampled)
        groups = sampled.frame["group_id"] if "group_id" in sampled.frame.columns else None
        if groups is None or groups.null_count():
            raise Missing("group_id is not logged")
        ids = groups.rank("dense").to_numpy()
        shares = estimators.group_shares(ids, success)
        rows = estimators.group_outcome(ids, success)
    except (Missing, EstimatorInputError) as reason:
        for name in (*names, "dead_group_share_unsolved"):
            out.values[name] = None
            out.reasons[name] = str(reason)
        return None
    out.values["solved_group_share"] = shares.solved
    out.values["failed_group_share"] = shares.failed
    out.values["dead_group_share"] = shares.solved + shares.failed
    unsolved = shares.failed + shares.mixed
    out.values["dead_group_share_unsolved"] = shares.failed / unsolved if unsolved else None
    if not len(used):
        return None
    table = sampled.frame.with_columns(outcome=pl.Series(rows, dtype=pl.Float64))
    return look_up(used.frame, table, "outcome").fill_null(0.0).to_numpy()


def _success(sampled: Rows) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Outcomes; a reward that is only ever 0 or 1 serves where success is not logged."""
    try:
        return sampled.numbers("success").astype(bool)
    except Missing as reason:
        reward = sampled.numbers("reward")
        if not np.isin(reward, (0.0, 1.0)).all():
            raise Missing(f"{reason}, and the reward is not only 0 or 1") from None
        return reward.astype(bool)


def _token_mean(rows: Rows, column: str) -> float:
    values = rows.present(column)
    for weights in ("token_count", "length"):
        try:
            counts = rows.numbers(weights)
        except Missing:
            continue
        complete = rows.frame[column].cast(pl.Float64).to_numpy()
        usable = np.isfinite(complete)
        if counts[usable].any():
            return estimators.token_mean(complete[usable], counts[usable])
    return _mean(values)


def _mean(values: Array) -> float:
    return float(np.sum(np.sort(values)) / values.size)


def _null_share(rows: Rows, column: str) -> float:
    if column not in rows.frame.columns:
        raise Missing(f"{column} is not logged")
    return rows.frame[column].null_count() / len(rows)


def _p95(data: StepData, name: str) -> float:
    if name not in data.histograms:
        raise Missing("token log-ratios are not logged")
    return estimators.histogram_percentile(data.histograms[name], 95)


def _nonfinite(data: StepData) -> int:
    """NaN and infinities in the columns that matter, and among the token log-ratios."""
    count = 0
    for table, columns in _COUNTED.items():
        frame = data.trajectories if table == "trajectories" else data.updates
        for column in columns:
            if column in frame.columns:
                values = frame[column].drop_nulls().cast(pl.Float64).to_numpy()
                found = estimators.count_nonfinite(values)
                count += found.total - (found.neginf if column == "log_weight" else 0)
    if (histogram := data.histograms.get("log_ratio_histogram")) is not None:
        count += estimators.nonfinite_tokens(histogram)
    return count


def _per_update(data: StepData, level: Level, whole: Collector) -> list[dict[str, Any]]:
    """ESS of each update on its own; ``whole`` are the metrics of the step."""
    if data.updates.is_empty():
        return []
    numbers = data.updates["update"].drop_nulls().unique().sort().to_list()
    result = []
    for number in numbers:
        frame = data.updates if len(numbers) == 1 else data.updates.filter(update=number)
        rows = Rows(with_role(frame, SAMPLED_ROLES), "sampled")
        out = whole if len(numbers) == 1 else _update_metrics(rows, level)
        about = {"step": data.step, "attempt": data.attempt, "update": number, "n": len(rows)}
        result.append(about | {f"ess_{basis}": out.values[f"ess_{basis}"] for basis in BASES})
    return result


def _update_metrics(rows: Rows, level: Level) -> Collector:
    out = Collector()
    out.put("ess_weight", lambda: level.ess(rows))
    out.put("ess_signal", lambda: fraction(log_basis("signal", level, rows)))
    out.put("ess_contribution", lambda: fraction(log_basis("contribution", level, rows)))
    return out
