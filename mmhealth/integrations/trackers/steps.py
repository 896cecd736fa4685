"""Every step of a run once, in order, as the numbers that trackers show."""

import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmhealth.health import Monitor, Policy, judge_run
from mmhealth.health.timeline import METRICS, LivedStep
from mmhealth.health.verdict import VerdictName
from mmhealth.runlog import Run
from mmhealth.runlog.run import Tail

PREFIX = "mmhealth/"
MEASURED = ("n", *METRICS, "nonfinite", "data_gap")
"""Columns of the timeline that are sent."""
VERDICTS: dict[VerdictName, int] = {"healthy": 0, "warning": 1, "critical": 2}
"""The verdict as a number; "insufficient" has none."""
SENT = (*MEASURED, "attempt", "verdict", "alerts_warning", "alerts_critical")
"""Names of all numbers that may be sent, without the prefix."""


@dataclass(frozen=True, slots=True)
class HealthStep:
    """What trackers are told of one step."""

    key: LivedStep
    time: float
    """When it was committed, seconds since 1970."""
    values: Mapping[str, float]
    """By name, with the prefix ``mmhealth/``; what is not known is not there."""


class HealthSteps:
    """Reads a run as it grows; judges each step as a watcher would have who saw no later one.

    Raises RunError as `open_run` does.
    """

    def __init__(self, run_dir: str | os.PathLike[str], policy: Policy | None = None) -> None:
        self.run = _StepwiseRun(Path(run_dir))
        self._monitor = Monitor(self.run, policy)
        self._last: LivedStep | None = None
        self._standing: tuple[object, VerdictName] | None = None

    def read(self) -> list[HealthStep]:
        """The steps that are new: each once, in the order lived.

        A step that a later attempt has hidden by now is left out, and so is one that was completed
        only after a later one had been read. Data that arrive late change no step that was read.
        """
        self.run.look()
        found = []
        while self.run.has_more:
            key = self.run.following
            self._monitor.poll()
            if self._last is not None and key <= self._last:
                continue
            self._last = key
            if self.run.stands(key):
                found.append(self._describe(key))
        return found

    def _describe(self, key: LivedStep) -> HealthStep:
        row = self._monitor.timeline.lived[key].values
        return HealthStep(key, float(row["time"]), health_values(row, self._monitor, self._name()))

    def _name(self) -> VerdictName:
        """The verdict; judged again only when what it rests on has changed."""
        alerts = tuple((alert.key, alert.state) for alert in self._monitor.alerts)
        state = (alerts, tuple(self._monitor.rule_engine.never_judged()))
        if self._standing is None or self._standing[0] != state:
            self._standing = (state, judge_run(self._monitor).name)
        return self._standing[1]


def latest_health(monitor: Monitor) -> dict[str, float]:
    """What the last judged step of a run says, for a loop that logs to its own tracker.

    ``tracker.log({"loss": loss, **latest_health(monitor)})`` after ``monitor.poll()``. Names begin
    with ``mmhealth/``, and ``mmhealth/step`` says which step it is; empty before the first one.
    """
    visible = monitor.timeline.visible()
    if not visible:
        return {}
    key, metrics = visible[-1]
    values = health_values(metrics.values, monitor, judge_run(monitor).name)
    return {f"{PREFIX}step": float(key.step), **values}


def health_values(
    row: Mapping[str, object], monitor: Monitor, verdict: VerdictName
) -> dict[str, float]:
    """A row of the timeline and what was made of it as named numbers, all of them finite."""
    firing = [alert.severity for alert in monitor.alerts if alert.state == "firing"]
    values: dict[str, object] = {name: row[name] for name in MEASURED}
    values |= {
        "attempt": row["attempt"],
        "verdict": VERDICTS.get(verdict),
        "alerts_warning": firing.count("warning"),
        "alerts_critical": firing.count("critical"),
    }
    known = {name: float(v) for name, v in values.items() if isinstance(v, int | float)}
    return {f"{PREFIX}{name}": value for name, value in known.items() if math.isfinite(value)}


class _StepwiseRun(Run):
    """A run whose `tail` hands out what one `look` found, step by step."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: deque[Tail] = deque()
        self._attempt = 0

    def look(self) -> None:
        """Read what is new."""
        tail = super().tail()
        for key in tail.keys:
            self._attempt = max(self._attempt, key.attempt)
            starts = {a: start for a, start in tail.starts.items() if a <= self._attempt}
            self._waiting.append(replace(tail, keys=[key], starts=starts))

    @property
    def has_more(self) -> bool:
        """Whether `tail` has something left."""
        return bool(self._waiting)

    @property
    def following(self) -> LivedStep:
        """The step that `tail` hands out next."""
        [key] = self._waiting[0].keys
        return LivedStep(key.attempt, key.step)

    def stands(self, key: LivedStep) -> bool:
        """Whether no later attempt hides the step, as far as has been looked."""
        return self.is_visible(key.attempt, key.step)

    def tail(self) -> Tail:
        """The next step."""
        return self._waiting.popleft()
