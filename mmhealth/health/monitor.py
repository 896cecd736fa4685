"""Watches a run: reads what is new, judges it, and tells whoever listens."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmhealth.health.alerts import Alert, AlertState
from mmhealth.health.engine import Engine
from mmhealth.health.policy import Policy, default_policy
from mmhealth.health.timeline import Timeline
from mmhealth.runlog import Run, open_run


class Monitor:
    """Timeline and alerts of one run, live or finished.

    A training loop calls `poll` after each step; a fresh monitor on the same data says the same.
    """

    def __init__(self, run: Run | str | os.PathLike[str], policy: Policy | None = None) -> None:
        self.run = run if isinstance(run, Run) else open_run(Path(run))
        self.policy = policy or default_policy()
        self.timeline = Timeline(self.run)
        self.engine = Engine(self.policy)
        self._subscribers: list[Callable[[Alert], None]] = []
        self._told: dict[tuple[str, int, int], AlertState] = {}

    @property
    def alerts(self) -> list[Alert]:
        """All alerts so far, in the order in which they fired."""
        return self.engine.alerts

    def subscribe(self, callback: Callable[[Alert], None]) -> None:
        """Call back whenever an alert fires, resolves or is superseded."""
        self._subscribers.append(callback)

    def poll(self) -> list[Alert]:
        """Read and judge what is new; return the alerts whose state changed."""
        self.engine.advance(self.timeline, self.timeline.update())
        changed = [alert for alert in self.alerts if self._told.get(alert.key) != alert.state]
        present = {alert.key for alert in self.alerts}
        for key in [key for key in self._told if key not in present]:
            del self._told[key]
        for alert in changed:
            self._told[alert.key] = alert.state
            for callback in self._subscribers:
                callback(replace(alert))
        return changed
