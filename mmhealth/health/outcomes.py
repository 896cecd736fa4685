"""Which groups of a step are solved, failed or mixed, and how often the policy succeeds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.rows import (
    Array,
    Collector,
    Measured,
    Missing,
    Rows,
    are_distinct,
    count_trajectories,
    look_up,
)

SETTLED_NATS = 0.2
"""Entropy of a choice of two that is made one way 95 times in 100."""

_SHARES = ("solved_group_share", "failed_group_share", "dead_group_share")
BY_OUTCOME = (
    *_SHARES,
    "dead_group_share_unsolved",
    "ess_signal_unsolved",
    "ess_contribution_unsolved",
    "gini_grad_norm_unsolved",
)
"""Metrics that ask what became of the groups."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the groups of a step."""

    used: Array | None = None
    """For each row used 1 (its group is solved), -1 (failed) or 0; None when not known."""
    unsolved: int = 0
    """Sampled trajectories whose group is not solved."""
    table: pl.DataFrame | None = None
    """Sampled trajectories with their group's ``outcome``, as above; None when not known."""


def group_outcomes(sampled: Rows, used: Rows, out: Collector) -> Outcomes:
    """Put the group shares and return what became of the groups."""
    try:
        success = _success(sampled)
        groups = sampled.frame["group_id"] if "group_id" in sampled.frame.columns else None
        if groups is None or groups.null_count():
            raise Missing("group_id is not logged")
        ids = group_numbers(groups)
        shares, rows = estimators.shares_and_outcome(ids, success)
    except (Missing, EstimatorInputError) as reason:
        for name in (*_SHARES, "dead_group_share_unsolved"):
            out.values[name] = None
            out.reasons[name] = str(reason)
        return Outcomes()
    out.values["solved_group_share"] = shares.solved
    out.values["failed_group_share"] = shares.failed
    out.values["dead_group_share"] = shares.solved + shares.failed
    unsolved = shares.failed + shares.mixed
    out.values["dead_group_share_unsolved"] = shares.failed / unsolved if unsolved else None
    if not len(used):
        return Outcomes()
    table = sampled.frame.hstack([pl.Series("outcome", rows, pl.Float64)])
    found = look_up(used.frame, table, "outcome")
    known = found.fill_null(0.0) if found.has_nulls() else found
    if are_distinct(table):
        unsolved_rows = int((rows < 1).sum())
    else:
        unsolved_rows = count_trajectories(table.filter(pl.col("outcome") < 1))
    return Outcomes(known.to_numpy(), unsolved_rows, table)


def group_numbers(groups: pl.Series) -> np.ndarray[Any, Any]:
    """A complete column of groups as whole numbers, one a group."""
    return (groups if groups.dtype.is_integer() else groups.rank("dense")).to_numpy()


def success_rate(sampled: Rows) -> Measured:
    """Share of the trajectories that succeeded, where that is known.

    A reward that is only ever 0 or 1 serves where success is not logged.
    """
    try:
        values = sampled.present("success")
    except Missing as reason:
        values = sampled.present("reward")
        _check_binary(values, reason)
    return Measured(float(np.sum(values)) / values.size, values.size)


def retreat_share(sampled: Rows) -> Measured:
    """Share of the trajectories that refused to act, or never put two sub-agents to work at once.

    Known only where there is something to flee from (``violated`` or ``constraint_margin`` is
    logged), of the columns ``serial`` and ``refused`` those that are logged.
    """
    if not sampled.has("violated") and not sampled.has("constraint_margin"):
        raise Missing("no constraint is logged: violated or constraint_margin")
    names = [name for name in ("serial", "refused") if sampled.has(name)]
    if not names:
        raise Missing("neither serial nor refused is logged")
    flags = [sampled.numbers(name).astype(bool) for name in names]
    retreated = np.logical_or.reduce(flags)
    return Measured(float(np.sum(retreated)) / retreated.size, retreated.size)


def stuck_share(sampled: Rows) -> Measured:
    """Share of the trajectories that do what was settled, in groups in which all fail.

    Settled: the mean entropy of its strategic decisions is below `SETTLED_NATS`.
    """
    entropy = sampled.numbers("strategic_entropy")
    groups = sampled.frame["group_id"] if "group_id" in sampled.frame.columns else None
    if groups is None or groups.null_count():
        raise Missing("group_id is not logged")
    failed = estimators.group_outcome(group_numbers(groups), _success(sampled)) < 0
    stuck = failed & (entropy < SETTLED_NATS)
    return Measured(float(np.sum(stuck)) / stuck.size, stuck.size)


def _success(sampled: Rows) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Outcomes; a reward that is only ever 0 or 1 serves where success is not logged."""
    try:
        return sampled.numbers("success").astype(bool)
    except Missing as reason:
        reward = sampled.numbers("reward")
        _check_binary(reward, reason)
        return reward.astype(bool)


def _check_binary(reward: Array, reason: Missing) -> None:
    if not np.isin(reward, (0.0, 1.0)).all():
        raise Missing(f"{reason}, and the reward is not only 0 or 1") from None
