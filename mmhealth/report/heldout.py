"""The course of held-out success: where it stalled, and how long before that the alert came."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import stall_step
from mmhealth.health import Alert
from mmhealth.report.metrics import Point
from mmhealth.runlog import Run

_AHEAD = 40
STALL_NEEDS = 15 + _AHEAD
"""Steps that `mmhealth.estimators.stall_step` needs: its window and what lies ahead."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out success of a run's own policy at one evaluation horizon."""

    eval_horizon: int | None
    """The horizon evaluated at most steps, the longest among equals; None when none was logged."""
    course: tuple[Point, ...]
    """Success rate at each evaluated step."""
    stall_step: int | None
    stall_reason: str | None
    """Why there is no stall step."""
    first_ess_step: int | None
    """Step of the first alert on an effective sample size, of any severity."""
    first_critical_step: int | None
    """Step of the first critical alert. Superseded alerts do not count."""

    @property
    def ess_lag(self) -> int | None:
        """Steps from the first ESS alert to the stall: positive when the alert came first."""
        return self._lag(self.first_ess_step)

    @property
    def critical_lag(self) -> int | None:
        """The same from the first critical alert."""
        return self._lag(self.first_critical_step)

    def _lag(self, step: int | None) -> int | None:
        return None if self.stall_step is None or step is None else self.stall_step - step


def held_out(run: Run, alerts: Sequence[Alert]) -> HeldOut:
    """Held-out success, the stall, and its lag behind the first alerts."""
    standing = [alert for alert in alerts if alert.state != "superseded"]
    ess = [alert.step for alert in standing if alert.metric.startswith("ess_")]
    critical = [alert.step for alert in standing if alert.severity == "critical"]
    horizon, course = _course(own_evaluations(run.evaluations))
    stall, reason = _stall(course)
    return HeldOut(
        horizon, course, stall, reason, min(ess, default=None), min(critical, default=None)
    )


def own_evaluations(evaluations: pl.DataFrame) -> pl.DataFrame:
    """Evaluations of the run's own policy that have episodes and successes."""
    if not {"episodes", "successes"} <= set(evaluations.columns):
        return pl.DataFrame()
    if "policy_id" in evaluations.columns:
        evaluations = evaluations.filter(pl.col("policy_id").is_null())
    if "eval_horizon" not in evaluations.columns:
        evaluations = evaluations.with_columns(eval_horizon=pl.lit(None, pl.Int64))
    return evaluations.filter((pl.col("episodes") > 0) & pl.col("successes").is_not_null())


def _course(evaluations: pl.DataFrame) -> tuple[int | None, tuple[Point, ...]]:
    if evaluations.is_empty():
        return None, ()
    often = (
        evaluations.group_by("eval_horizon", maintain_order=True)
        .agg(pl.col("step").n_unique())
        .sort("step", "eval_horizon", descending=True, nulls_last=True)
    )
    horizon = often["eval_horizon"][0]
    steps = (
        evaluations.filter(pl.col("eval_horizon").eq_missing(horizon))
        .group_by("step", maintain_order=True)
        .agg(pl.col("episodes").sum(), pl.col("successes").sum())
        .sort("step")
    )
    course = tuple(Point(step, won / n) for step, n, won in steps.iter_rows())
    return horizon, course


def _stall(course: Sequence[Point]) -> tuple[int | None, str | None]:
    if not course:
        return None, "no held-out evaluation is logged"
    span = course[-1].step - course[0].step + 1
    if span < STALL_NEEDS:
        return None, f"evaluations span {span} steps; a stall can be seen from {STALL_NEEDS} on"
    try:
        stall = stall_step([point.step for point in course], [point.value for point in course])
    except EstimatorInputError as error:
        return None, str(error)
    judged = course[-1].step - _AHEAD
    reason = f"held-out success kept improving up to step {judged}; later steps need more ahead"
    return stall, reason if stall is None else None
