"""The terms of a step's loss, one a row: what every option changes, and how it is measured.

The gradient of ``-w A log pi`` is ``-w A grad log pi``, linear in ``w A``. So a row's logged
``grad_norm`` scales by ``|A'| / |A|`` with its advantage and by ``w' / w`` with its weight, with no
need of the gradient itself; and ``grad_norm / (w |A|)`` is the norm of its score.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mmhealth.health.bases import Level
from mmhealth.health.outcomes import group_outcomes
from mmhealth.health.rows import (
    Array,
    Collector,
    Missing,
    Rows,
    last_update,
    look_up,
    with_role,
)
from mmhealth.runlog import StepData
from mmhealth.schema import SAMPLED_ROLES, UPDATE_ROLES

_ROUNDING = 1e-4
"""Difference, relative to the largest value, that float32 columns may have by rounding."""
_SILENT = 1e-6
"""Gradient norm, relative to the largest, that counts as none."""


@dataclass(frozen=True, slots=True)
class StepTerms:
    """The rows of a step, each as it entered its last update."""

    data: StepData
    level: Level
    logged: Rows
    """Rows of the updates table in every role."""
    rows: Rows
    """Those that entered the update, with the log weight that the loss multiplied."""
    assumed: str | None
    """What stands in for the advantage where that is not logged."""
    other_basis: str | None
    """Why weights of 1 must not stand in for those that the step lacks."""

    @property
    def sampled(self) -> Rows:
        """What the policy sampled, as in the trajectories table."""
        return Rows(with_role(self.data.trajectories, SAMPLED_ROLES), "sampled")

    @property
    def sampled_updates(self) -> Rows:
        """Rows of the updates table that were sampled, swapped out ones among them."""
        return Rows(with_role(self.logged.frame, SAMPLED_ROLES), "sampled")

    def of_trajectory(self, column: str, rows: Rows | None = None) -> pl.Series:
        """A complete column of the trajectories, one value a row. Raises `Missing`."""
        rows = rows or self.rows
        if column not in self.data.trajectories.columns:
            raise Missing(f"{column} is not logged")
        found = look_up(rows.frame, self.data.trajectories, column)
        if found.dtype.is_numeric() or found.dtype == pl.Boolean:
            Rows(found.to_frame(), rows.what).numbers(column)
        elif nulls := found.null_count():
            everywhere = nulls == len(found)
            where = f"missing in {nulls} of {len(found)} {rows.what} rows"
            raise Missing(f"{column} is {'not logged' if everywhere else where}")
        return found

    def groups(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """(rows,) number of each row's group."""
        ids = self.of_trajectory("group_id")
        return (ids.rank("dense").to_numpy() - 1).astype(np.intp)

    def outcomes(self) -> Array:
        """(rows,) 1 where the row's group is solved, -1 failed, 0 mixed, as it was sampled."""
        out = Collector()
        found = group_outcomes(self.sampled, self.rows, out).used
        if found is None:
            raise Missing(out.reasons.get("dead_group_share", "no update rows"))
        return found

    def group_shares(self) -> tuple[float | None, float | None]:
        """Shares of the groups that are solved, and that are failed; None: not known."""
        out = Collector()
        group_outcomes(self.sampled, self.rows, out)
        return out.values["solved_group_share"], out.values["failed_group_share"]

    def is_reward_over_group(self) -> bool:
        """Whether the logged advantages are rewards minus the mean of the group."""
        rows = self.sampled_updates
        try:
            return _alike(rows.numbers("advantage"), _over_group(self.sampled, rows))
        except Missing:
            return False

    def is_centred(self) -> bool:
        """Whether the logged advantages of each group sum to nothing: a group's own baseline."""
        sampled = self.sampled_updates
        advantage = sampled.numbers("advantage")
        if not np.isfinite(advantage).all():
            return False
        group = self.of_trajectory("group_id", sampled).rank("dense").to_numpy() - 1
        means = np.bincount(group, advantage) / np.bincount(group)
        return _alike(advantage - means[group], advantage)

    def weights(self) -> Array:
        """(rows,) weights that multiplied the terms; 1 where the loss gives rows none."""
        with np.errstate(over="ignore"):
            return np.exp(self.level.signal_log_weights(self.rows))

    def sizes(self) -> Array:
        """(rows,) weight x |advantage|; NaN or infinite where either is."""
        with np.errstate(invalid="ignore", over="ignore"):
            return self.weights() * np.abs(self.rows.numbers("advantage"))

    def score_norms(self) -> Array:
        """(rows,) norm of the gradient of log pi, up to a factor of the step; NaN: not known.

        It is not known where weight or advantage is 0, as the term says nothing of it then.
        """
        size, norms = self.sizes(), self.rows.numbers("grad_norm")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scores = norms / size
        usable = np.isfinite(scores) & (size > 0)
        return np.where(usable, scores, np.nan)

    def nonlinear(self) -> tuple[str, ...]:
        """What speaks against ``grad_norm`` being that of ``-w A log pi`` alone."""
        found = []
        if self.data.scalars.get("kl_coef"):
            found.append("kl_coef is not 0: grad_norm may hold the gradient of a KL term")
        try:
            size, norms = self.sizes(), self.rows.numbers("grad_norm")
        except Missing:
            return tuple(found)
        finite = norms[np.isfinite(norms)]
        if finite.size and ((size == 0) & (norms > _SILENT * finite.max())).any():
            found.append(
                "rows whose advantage or weight is 0 have a gradient: grad_norm holds other terms"
            )
        return tuple(found)

    def caveats(self) -> tuple[str, ...]:
        """What makes every answer an estimate, whatever the option."""
        found = [] if self.assumed is None else [self.assumed]
        updates = self.data.updates
        if not updates.is_empty() and (last := self.rows.frame["update"].n_unique()) > 1:
            found.append(
                f"rows are of {last} updates: the earlier would have moved the parameters otherwise"
            )
        elif not updates.is_empty() and (count := updates["update"].n_unique()) > 1:
            found.append(
                f"a step has {count} updates, rows are looked at in the last: the earlier would "
                "have moved the parameters otherwise"
            )
        return tuple(found)

    def scaled(self, factor: Array) -> Rows:
        """The rows with advantages times ``factor`` (rows,)."""
        return self.changed(advantage=factor, grad_norm=np.abs(factor))

    def reweighted(self, log_weight: Array) -> Rows:
        """The rows with these log weights (rows,), at the level of the loss."""
        now = self.level.log_weights(self.rows)
        with np.errstate(invalid="ignore", over="ignore"):
            factor = np.exp(np.where(log_weight == now, 0.0, log_weight - now))
        rows = self.changed(grad_norm=factor)
        if self.level.loss_ratio == "geometric":
            log_weight = log_weight * np.maximum(self.level.lengths(self.rows), 1)
        return Rows(rows.frame.with_columns(log_weight=pl.Series(log_weight)), rows.what)

    def changed(self, **factors: Array) -> Rows:
        """The rows with these columns multiplied, those of them that are logged."""
        frame = self.rows.frame
        columns = {
            name: frame[name].cast(pl.Float64) * pl.Series(factor)
            for name, factor in factors.items()
            if name in frame.columns
        }
        return Rows(frame.with_columns(**columns), self.rows.what)

    def kept(self, which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Rows:
        """Some of the rows, ``which`` (rows,) bool."""
        return Rows(self.rows.frame.filter(pl.Series(which)), self.rows.what)


def step_terms(data: StepData, loss_ratio: str, other_basis: str | None = None) -> StepTerms:
    """The terms of one step.

    Where no advantage is logged, rewards minus the mean of their group stand in for it.
    """
    frame = last_update(data.updates)
    if frame.is_empty() and not data.trajectories.is_empty():
        frame = data.trajectories.select("rank", "trajectory_id", "role")
    assumed = None
    if "advantage" not in frame.columns or frame["advantage"].null_count() == len(frame):
        try:
            sampled = Rows(with_role(data.trajectories, SAMPLED_ROLES), "sampled")
            advantage = _over_group(sampled, Rows(frame, "update"))
            frame = frame.with_columns(advantage=pl.Series(advantage))
            assumed = "advantage is not logged: taken as the reward minus the mean of its group"
        except Missing:
            pass
    level = Level(loss_ratio, data)
    rows = level.as_multiplied(Rows(with_role(frame, UPDATE_ROLES), "update"))
    return StepTerms(data, level, Rows(frame, "logged"), rows, assumed, other_basis)


def _over_group(sampled: Rows, rows: Rows) -> Array:
    reward = sampled.numbers("reward")
    if not np.isfinite(reward).all():
        raise Missing("reward is not finite in some rows")
    if "group_id" not in sampled.frame.columns or sampled.frame["group_id"].null_count():
        raise Missing("group_id is not logged")
    group = sampled.frame["group_id"].rank("dense").to_numpy() - 1
    over = reward - (np.bincount(group, reward) / np.bincount(group))[group]
    table = sampled.frame.select("rank", "trajectory_id", over=pl.Series(over))
    return Rows(look_up(rows.frame, table, "over").to_frame(), rows.what).numbers("over")


def _alike(left: Array, right: Array) -> bool:
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return False
    return bool((np.abs(left - right) <= _ROUNDING * np.abs(right).max(initial=0.0)).all())
