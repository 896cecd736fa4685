"""The ESS columns of a timeline row, on every basis and over every choice of rows."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from mmhealth.health.bases import (
    BASES,
    Basis,
    Counted,
    Level,
    count_ess,
    fraction,
    log_basis,
    signal_ceiling,
    unsolved,
    weight_ess,
)
from mmhealth.health.outcomes import Outcomes
from mmhealth.health.rows import (
    Array,
    Collector,
    Measured,
    Missing,
    Rows,
    count_trajectories,
    last_update,
    once,
    with_role,
)
from mmhealth.runlog import StepData
from mmhealth.schema import SAMPLED_ROLES


@dataclass(frozen=True, slots=True)
class UsedRows:
    """Rows of the updates table, each as it entered its last update."""

    sampled: Rows
    update: Rows
    trajectories: int
    """Sampled trajectories, also those that entered no update: they contribute nothing."""
    outcomes: Outcomes


def count_sampled(data: StepData, sampled: Rows) -> int:
    """Sampled trajectories of a step that signal and contribution are fractions of.

    Where rows of the step cannot be read, only those of ranks whose updates could be read:
    what is lost is not known to contribute nothing.
    """
    frame = sampled.frame
    if data.rows_missing and not frame.is_empty():
        ranks = [] if data.updates.is_empty() else data.updates["rank"].unique().to_list()
        frame = frame.filter(pl.col("rank").is_in(ranks))
    return count_trajectories(frame)


def ess_columns(out: Collector, level: Level, used: UsedRows, nominal: int | None) -> None:
    """Put every ESS column of a step."""
    for basis in BASES:
        _of_basis(out, basis, level, used, nominal)
    out.put("ess_signal_ceiling", lambda: signal_ceiling(used.sampled, used.trajectories))
    out.put("ess_weight_other", lambda: _other_level(level, used.sampled))


def ess_per_update(
    data: StepData, level: Level, used: UsedRows, whole: Collector
) -> list[dict[str, Any]]:
    """ESS over the sampled rows of each update; ``whole`` are the metrics of the step."""
    if data.updates.is_empty():
        return []
    update = data.updates["update"]
    numbers = [first := update.min()]
    if first is None or first != update.max():
        numbers = update.drop_nulls().unique().sort().to_list()
    is_whole = len(numbers) == 1 and used.trajectories <= len(used.sampled)
    result = []
    for number in numbers:
        rows, out = used.sampled, whole
        if not is_whole:
            frame = last_update(data.updates.filter(update=number))
            rows = Rows(with_role(frame, SAMPLED_ROLES), "sampled")
            out = _update_metrics(rows, level)
        about = {"step": data.step, "attempt": data.attempt, "update": number, "n": len(rows)}
        result.append(about | {f"ess_{basis}": out.values[f"ess_{basis}"] for basis in BASES})
    return result


def _of_basis(
    out: Collector, basis: Basis, level: Level, used: UsedRows, nominal: int | None
) -> None:
    name = f"ess_{basis}"
    is_weight = basis == "weight"

    @once
    def values() -> Array:
        return log_basis(basis, level, used.sampled)

    @once
    def counted() -> Counted:
        return count_ess(values())

    def whole() -> Measured:
        return level.ess(used.sampled) if is_weight else counted().fraction(used.trajectories)

    def entered() -> Measured:
        rows = used.update if basis == "contribution" else level.as_multiplied(used.update)
        if rows.frame is not used.sampled.frame:
            return level.ess(rows) if is_weight else fraction(log_basis(basis, level, rows))
        if not is_weight:
            return counted().fraction()
        if name not in out.values:
            return level.ess(used.sampled)
        return Measured(out.known(name), out.rows[name])

    def of_nominal() -> float:
        value = out.known(name)
        if not nominal:
            raise Missing("nominal_batch is not logged")
        rows = len(used.sampled)
        return value * (rows if is_weight else max(rows, used.trajectories)) / nominal

    def left() -> Measured:
        outcome = used.outcomes.used
        if outcome is not None and (outcome < 1).all():
            return counted().fraction(used.outcomes.unsolved)
        return fraction(unsolved(values(), outcome), used.outcomes.unsolved)

    out.put(name, whole)
    out.put(f"{name}_update", entered)
    out.put(f"{name}_nominal", of_nominal)
    if not is_weight:
        out.put(f"{name}_unsolved", left)


def _other_level(level: Level, rows: Rows) -> Measured:
    """Weight ESS at the level that the loss does not use: shown, never judged."""
    if level.loss_ratio == "token":
        return weight_ess(level.log_weights(rows, level="sequence"))
    return level.token_ess(rows)


def _update_metrics(rows: Rows, level: Level) -> Collector:
    out = Collector()
    out.put("ess_weight", lambda: level.ess(rows))
    out.put("ess_signal", lambda: fraction(log_basis("signal", level, rows)))
    out.put("ess_contribution", lambda: fraction(log_basis("contribution", level, rows)))
    return out
