"""How far the baseline of least variance is from the group's mean reward, one number a step."""

import numpy as np

from mmhealth import estimators
from mmhealth.health.outcomes import group_numbers
from mmhealth.health.rows import Array, Measured, Missing, Rows
from mmhealth.runlog import StepData


def baseline_gap(data: StepData, rows: Rows) -> Measured:
    """Mean over groups of |b* - mean reward|, b* the baseline of least variance; unit: reward.

    0 where trajectories of a group have equal score norms. Over the rows of each group that entered
    an update, of the groups whose rewards differ and of whose rows none has the advantage 0, which
    hides its score. b* has the row's own reward in it, as the mean has. Raises `Missing` where
    ``grad_norm`` is not that of the term -w A log pi alone, or rows are of no group's comparison.

    ``rows``: those that entered an update, each as it entered its last one.
    """
    if data.commits_missing:
        raise Missing("the commit of the step, which says kl_coef, cannot be read")
    if data.scalars.get("kl_coef"):
        raise Missing("kl_coef is not 0: grad_norm may hold the gradient of a KL term")
    norms, advantage = rows.numbers("grad_norm"), rows.numbers("advantage")
    if (rows.frame["role"] == "injected").any():
        raise Missing("rows were injected: they are no part of what their group is compared with")
    reward = _of_trajectory(data, rows, "reward")
    if not np.isfinite(np.concatenate([norms, advantage, reward.numbers("reward")])).all():
        raise Missing("grad_norm, advantage or reward is not finite in some update rows")
    groups = _of_trajectory(data, rows, "group_id").frame["group_id"]
    codes = estimators.group_codes(group_numbers(groups))
    return _mean_gap(norms, advantage, reward.numbers("reward"), codes)


def _mean_gap(
    norms: Array, advantage: Array, reward: Array, group: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> Measured:
    order = estimators.order_in_groups(group, norms, advantage, reward)
    table, group = np.stack((norms, advantage, reward))[:, order], group[order]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    differs = np.maximum.reduceat(table[2], first) > np.minimum.reduceat(table[2], first)
    told = differs & np.logical_and.reduceat(table[1] != 0, first)
    if not told.any():
        raise Missing("no group has rewards that differ and advantages that all are not 0")
    if not told.all():
        table, group = table[:, told[group]], group[told[group]]
    norms, advantage, reward = table
    best = np.bincount(group, estimators.baseline_weights(norms, advantage, group) * reward)
    mean = np.bincount(group, reward) / np.maximum(np.bincount(group), 1)
    return Measured(float(np.abs(best - mean).sum() / told.sum()), norms.size)


def _of_trajectory(data: StepData, rows: Rows, column: str) -> Rows:
    """A complete column of the trajectories, one value an update row."""
    if column not in data.trajectories.columns:
        raise Missing(f"{column} is not logged")
    found = rows.look_up(data.trajectories, column)
    if nulls := found.null_count():
        raise Missing(f"{column} is missing in {nulls} of {len(found)} {rows.what} rows")
    return Rows(found.to_frame(), rows.what)
