"""Judges a run directory as it grows, from the attempts on that begin now."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from mmhealth.errors import RunError, RunNotFoundError
from mmhealth.health import Alert, Monitor, Policy, judge_run
from mmhealth.runlog import Run, new_attempt


class Watch:
    """What a policy says of the steps that a job adds to a run directory.

    Make it before the job starts: attempts that exist by then are history, which baselines know and
    no alert is of. The directory may come to be later, and may be replaced by a new run.
    ``on_alert`` is called with an alert and the id of its run.
    """

    def __init__(
        self, run_dir: Path, policy: Policy, on_alert: Callable[[Alert, str], None] | None = None
    ) -> None:
        self.run_dir = run_dir
        self.policy = policy
        self._on_alert = on_alert
        self._monitor: Monitor | None = None
        self._earlier_run = _run_id(run_dir)
        self._first_attempt = new_attempt(run_dir)

    def look(self) -> list[Alert]:
        """Read and judge what is new; the alerts for which the job is to be stopped.

        Those are firing now and would fail the policy's gate. Raises RunError where the run cannot
        be read, and OSError.
        """
        try:
            run = Run(self.run_dir)
        except RunNotFoundError:
            return []
        if self._monitor is None or self._monitor.run.id != run.id:
            first = self._first_attempt if run.id == self._earlier_run else 0
            self._monitor = Monitor(run, self.policy, first_attempt=first)
            if (tell := self._on_alert) is not None:
                self._monitor.subscribe(lambda alert: tell(alert, run.id))
        self._monitor.poll()
        last = self.last_step()
        return [
            alert
            for alert in self._monitor.alerts
            if last is not None and alert.state == "firing" and self.policy.fails(alert, last)
        ]

    def forget(self) -> None:
        """Read everything anew at the next look."""
        self._monitor = None

    def last_step(self) -> int | None:
        """Last step that the job added and that was judged."""
        if self._monitor is None:
            return None
        own = pl.col("attempt") >= self._monitor.rule_engine.first_attempt
        steps = self._monitor.timeline.frame.filter(own)["step"]
        return int(steps[-1]) if len(steps) else None

    def unjudged(self) -> str | None:
        """Why the rules could say nothing of the job; None where they could."""
        if self._monitor is None or self.last_step() is None:
            return f"{self.run_dir} has no complete step of it: does it record to this directory?"
        verdict = judge_run(self._monitor)
        return verdict.why if verdict.name == "insufficient" else None


def _run_id(run_dir: Path) -> str | None:
    """Identity of the run that is there already; None where none can be read."""
    try:
        return Run(run_dir).id
    except RunError:
        return None
