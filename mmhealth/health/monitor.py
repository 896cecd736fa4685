"""Watches a run: reads what is new, judges it, and tells whoever listens."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmhealth.engines import Engine
from mmhealth.health.alerts import Alert
from mmhealth.health.policy import Policy, default_policy
from mmhealth.health.rule_engine import RuleEngine
from mmhealth.health.timeline import LivedStep, Timeline
from mmhealth.place import RunUrl
from mmhealth.runlog import Recorder, Run, open_run


class Monitor:
    """Timeline and alerts of one run, live or finished.

    A training loop calls `poll` after each step; a fresh monitor on the same data says the same,
    also while the policy's reference run grows.

    Args:
        run: the run, its directory, or the recorder that writes it.
        policy: rules to judge by; the default policy where none is given.
        on_alert: called back as by `subscribe`.
        first_attempt: only steps of this attempt and later ones can breach a rule; older ones are
            history, which baselines know, and of a fall the window before.
        engine: what measures steps, window by window; here, one after the other, without.
        cache: folder of steps that were measured before; see `Timeline`.
        readings: read each step for a diagnosis, too, which else reads the rows once more.

    Raises RunError as `open_run` does, also for the policy's reference run.
    """

    def __init__(
        self,
        run: Run | Recorder | str | os.PathLike[str] | RunUrl,
        policy: Policy | None = None,
        *,
        on_alert: Callable[[Alert], None] | None = None,
        first_attempt: int = 0,
        engine: Engine | None = None,
        cache: Path | None = None,
        readings: bool = False,
    ) -> None:
        path = run.run_dir if isinstance(run, Recorder) else run
        self.run = path if isinstance(path, Run) else open_run(path)
        self.policy = policy or default_policy()
        self.timeline = Timeline(
            self.run, self.policy.demanded, engine=engine, cache=cache, readings=readings
        )
        self.rule_engine = RuleEngine(self.policy, first_attempt=first_attempt)
        reference = self.policy.reference
        self._reference = (
            None if reference is None else Timeline(open_run(reference), engine=engine, cache=cache)
        )
        self._update_reference()
        self._subscribers = [] if on_alert is None else [on_alert]
        self._told: dict[tuple[str, int, int], Alert] = {}

    @property
    def alerts(self) -> list[Alert]:
        """All alerts so far, in the order in which they fired."""
        return self.rule_engine.alerts

    def subscribe(self, callback: Callable[[Alert], None]) -> None:
        """Call back, with a copy of the alert, whenever one fires, resolves or is superseded.

        An alert that was told and that late data take back is not in `alerts` any more: it is told
        once more, as it was, with the state ``superseded``. Those come first.
        """
        self._subscribers.append(callback)

    def poll(self) -> list[Alert]:
        """Read and judge what is new; return the alerts whose state changed, as told."""
        news = (self.timeline.update(), self._update_reference())
        changed_from = min((key for key in news if key is not None), default=None)
        if changed_from is None:
            return []
        self.rule_engine.advance(self.timeline, changed_from)
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

    def _update_reference(self) -> LivedStep | None:
        """Read what is new of the reference run; return the earliest step held against it."""
        if self._reference is None or self._reference.update() is None:
            return None
        before = self.rule_engine.reference
        now = {key.step: metrics.values for key, metrics in self._reference.visible()}
        self.rule_engine.reference = now
        changed = (k for k in self.timeline.lived if now.get(k.step) != before.get(k.step))
        return min(changed, default=None)
