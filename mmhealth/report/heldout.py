"""Held-out success beside the alerts: how long before the stall the first alert came."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmhealth.health import Alert
from mmhealth.health.heldout import held_out_course
from mmhealth.report.metrics import Point
from mmhealth.runlog import Run


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
    found = held_out_course(run.evaluations)
    course = tuple(Point(*row) for row in found.frame.select("step", "rate").iter_rows())
    return HeldOut(
        found.eval_horizon,
        course,
        found.stall_step,
        found.stall_reason,
        min(ess, default=None),
        min(critical, default=None),
    )
