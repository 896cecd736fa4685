"""Watches a run: reads what is new, judges it, and tells whoever listens."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmhealth.health.alerts import Alert
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
        self._told: dict[tuple[str, int, int], Alert] = {}

    @property
    def alerts(self) -> list[Alert]:
        """All alerts so far, in the order in which they fired."""
        return self.engine.alerts

    def subscribe(self, callback: Callable[[Alert], None]) -> None:
        """Call back, with a copy of the alert, whenever one fires, resolves or is superseded.

        An alert that was told and that late data take back is not in `alerts` any more: it is told
        once more, as it was, with the state ``superseded``. Those come first.
        """
        self._subscribers.append(callback)

    def poll(self) -> list[Alert]:
        """Read and judge what is new; return the alerts whose state changed, as told."""
        changed_from = self.timeline.update()
        if changed_from is None:
            return []
        self.engine.advance(self.timeline, changed_from)
        present = {alert.key for alert in self.alerts}
        gone = [self._told.pop(key) for key in [key for key in self._told if key not in present]]
        changed = [replace(a, state="superseded") for a in gone if a.state != "superseded"]
        for alert in self.alerts:
            told = self._told.get(alert.key)
            if told is None or told.state != alert.state:
                self._told[alert.key] = replace(alert)
                changed.append(replace(alert))
        for alert in changed:
            for callback in self._subscribers:
                callback(replace(alert))
        return changed
