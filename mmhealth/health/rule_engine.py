"""Runs the rules over a timeline, in the order in which it was lived."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmhealth.health.alerts import Alert, RuleState
from mmhealth.health.judgement import Judgement
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.policy import Policy
from mmhealth.health.rules import Rule
from mmhealth.health.timeline import ENTRY, LivedStep, Timeline
from mmhealth.health.track import RuleTrack
from mmhealth.health.undecided import Doubt, IntervalRecord

_BEFORE_ALL = LivedStep(ENTRY, ENTRY)


@dataclass(slots=True)
class RuleEngine:
    """Judges a timeline; what it says is a pure function of the timeline's rows.

    Attempts are judged in the order in which they were lived, whether or not they got as far as a
    step: attempt k goes on from the rows that stood when it started, and alerts that fired at steps
    hidden by it are superseded. A change in the past is judged again from the last snapshot before
    it; there is one every ``snapshot_steps`` steps.

    Steps of attempts before ``first_attempt`` are history only: baselines and the first window of a
    fall know them, but no rule counts them, no mean is over them and no alert is of them.
    """

    policy: Policy
    alerts: list[Alert] = field(default_factory=list)
    snapshot_steps: int = 50
    reference: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Rows of the reference run's timeline, by step."""
    first_attempt: int = 0
    _tracks: list[RuleTrack] = field(default_factory=list)
    _history: list[StepMetrics] = field(default_factory=list)
    _position: LivedStep = _BEFORE_ALL
    _snapshots: list["_Snapshot"] = field(default_factory=list)

    def advance(self, timeline: Timeline, changed: LivedStep | None) -> None:
        """Take in the timeline; ``changed`` is what `Timeline.update` returned."""
        if changed is None:
            return
        if changed <= self._position:
            self._return_to_before(changed)
        if not self._tracks:
            self._restart()
        for attempt, start in timeline.starts.items():
            if attempt > self._position.attempt:
                self._enter(attempt, start)
            if attempt == self._position.attempt:
                for key in timeline.lived_after(self._position):
                    self._judge(key, timeline.lived[key])

    def states(self) -> dict[str, RuleState]:
        """Where each rule stands."""
        known: dict[str, RuleState] = {track.rule.name: track.state for track in self._tracks}
        return {rule.name: known.get(rule.name, "no data") for rule in self.policy.rules}

    def never_judged(self) -> list[str]:
        """Rules, in the order of the policy, that had no data at any step that stands."""
        return [name for name, steps in self.judged_steps().items() if not steps]

    def judged_steps(self) -> dict[str, int]:
        """By rule, in the order of the policy: steps that stand at which it had data."""
        known = {track.rule.name: track.judged for track in self._tracks}
        return {rule.name: known.get(rule.name, 0) for rule in self.policy.rules}

    def latest(self) -> dict[str, tuple[int, Judgement]]:
        """Of each rule that ever had data at a step that stands: the last such step, and what the
        rule said of it."""
        return {track.rule.name: track.latest for track in self._tracks if track.latest is not None}

    def intervals(self) -> dict[str, IntervalRecord]:
        """What became of the intervals of each rule that demands them."""
        known = {track.rule.name: track.intervals for track in self._tracks}
        demanding = [rule.name for rule in self.policy.rules if rule.demand_interval is not None]
        return {name: known.get(name, IntervalRecord()) for name in demanding}

    def undecided(self) -> list[Doubt]:
        """Rules, in the order of the policy, that their intervals leave undecided now."""
        return [track.doubt for track in self._tracks if track.doubt is not None]

    def doubts(self, rule: Rule) -> dict[int, Doubt]:
        """By step, in order: those that stand at which its intervals leave the rule undecided."""
        track, history, found = RuleTrack(rule), list[StepMetrics](), dict[int, Doubt]()
        for step in self._history if rule.demand_interval is not None else ():
            history.append(step)
            if not step.is_history:
                track.judge(history, [])
                if track.doubt is not None:
                    found[step.values["step"]] = track.doubt
        return found

    def _judge(self, key: LivedStep, step: StepMetrics) -> None:
        self._take_in(step)
        self._position = key
        if len(self._history) % self.snapshot_steps == 0:
            self._keep_snapshot()

    def _take_in(self, step: StepMetrics) -> None:
        beside = self.reference.get(step.values["step"], {})
        is_history = step.values["attempt"] < self.first_attempt
        self._history.append(replace(step, reference=beside, is_history=is_history))
        for track in self._tracks:
            if is_history:
                track.recall(self._history[-1])
            else:
                track.judge(self._history, self.alerts)

    def _enter(self, attempt: int, start: int) -> None:
        """Hide what an attempt hides, and bring all rules to where they stood before its start."""
        if any(step.values["step"] >= start for step in self._history):
            kept = [step for step in self._history if step.values["step"] < start]
            hidden = [
                alert if alert.state == "superseded" else replace(alert, state="superseded")
                for alert in self.alerts
                if alert.state == "superseded" or alert.step >= start
            ]
            self._restart()
            for step in kept:
                self._take_in(step)
            self.alerts = hidden + self.alerts
        self._position = LivedStep(attempt, ENTRY)
        self._keep_snapshot()

    def _restart(self) -> None:
        self.alerts = []
        self._history = []
        self._tracks = [RuleTrack(rule) for rule in self.policy.rules]

    def _keep_snapshot(self) -> None:
        tracks, alerts = _copies(self._tracks, self.alerts)
        snapshot = _Snapshot(self._position, tracks, alerts, self._history, len(self._history))
        self._snapshots.append(snapshot)

    def _return_to_before(self, changed: LivedStep) -> None:
        while self._snapshots and self._snapshots[-1].position >= changed:
            self._snapshots.pop()
        if not self._snapshots:
            self._restart()
            self._position = _BEFORE_ALL
            return
        last = self._snapshots[-1]
        self._position = last.position
        self._tracks, self.alerts = _copies(last.tracks, last.alerts)
        self._history = last.history
        del self._history[last.length :]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All that an engine knew at a position."""

    position: LivedStep
    tracks: list[RuleTrack]
    alerts: list[Alert]
    history: list[StepMetrics]
    """Shared with the engine, which only appends to it: the first ``length`` steps count."""
    length: int


def _copies(tracks: list[RuleTrack], alerts: list[Alert]) -> tuple[list[RuleTrack], list[Alert]]:
    """Copies that can go on without each other; only alerts that a track still holds change."""
    held = {id(track.current): replace(track.current) for track in tracks if track.current}
    copied = [replace(track, current=held.get(id(track.current))) for track in tracks]
    return copied, [held.get(id(alert), alert) for alert in alerts]
