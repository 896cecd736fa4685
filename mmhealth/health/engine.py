"""Runs the rules over the timeline: inactive -> pending -> firing -> resolved."""

from dataclasses import dataclass, field, replace

from mmhealth.health.alerts import Alert, RuleState
from mmhealth.health.policy import Policy
from mmhealth.health.rules import Judgement, Row, Rule
from mmhealth.health.timeline import LivedStep, Timeline


@dataclass(slots=True)
class _RuleTrack:
    """One rule's way through the steps."""

    rule: Rule
    state: RuleState = "inactive"
    breached: int = 0
    pending_step: int = 0
    recovered: int = 0
    current: Alert | None = None

    def judge(self, history: list[Row], fired: list[Alert]) -> None:
        judgement = self.rule.judge(history)
        if self.current is not None:
            self._while_firing(judgement, history[-1])
        elif judgement.reading == "breached":
            self._count_breach(judgement, history[-1], fired)
        else:
            self.breached = 0
            self.state = judgement.reading if judgement.reading in _QUIET else "inactive"

    def _count_breach(self, judgement: Judgement, row: Row, fired: list[Alert]) -> None:
        if self.breached == 0:
            self.pending_step = row["step"]
        self.breached += 1
        self.state = "pending"
        if self.breached < self.rule.for_steps:
            return
        assert judgement.value is not None
        assert judgement.threshold is not None
        self.state = "firing"
        self.recovered = 0
        self.current = Alert(
            rule=self.rule.name,
            metric=self.rule.metric,
            severity=self.rule.severity,
            state="firing",
            pending_step=self.pending_step,
            step=row["step"],
            resolved_step=None,
            attempt=row["attempt"],
            value=judgement.value,
            worst=judgement.value,
            threshold=judgement.threshold,
            rows=row["n"],
            partial=not row["complete"],
            meaning=self.rule.meaning,
            failure_mode=self.rule.failure_mode,
            fix=self.rule.fix,
        )
        fired.append(self.current)

    def _while_firing(self, judgement: Judgement, row: Row) -> None:
        alert = self.current
        assert alert is not None
        if judgement.value is not None and self.rule.is_worse(judgement.value, alert.worst):
            alert.worst = judgement.value
        recovered = judgement.reading in ("recovered", "solved")
        if judgement.reading != "no data":
            self.recovered = self.recovered + 1 if recovered else 0
        if self.recovered >= self.rule.recover_steps:
            alert.state = "resolved"
            alert.resolved_step = row["step"]
            self.current = None
            self.breached = 0
            self.state = "solved" if judgement.reading == "solved" else "inactive"


_QUIET: tuple[RuleState, ...] = ("solved", "no data")


@dataclass(slots=True)
class Engine:
    """Judges a timeline; what it says is a pure function of the timeline's rows.

    Attempts are judged in the order in which they were lived: attempt k goes on from the rows that
    stood when it started. Alerts that fired at steps hidden by it are superseded.
    """

    policy: Policy
    alerts: list[Alert] = field(default_factory=list)
    _tracks: list[_RuleTrack] = field(default_factory=list)
    _history: list[Row] = field(default_factory=list)
    _judged: LivedStep | None = None

    def advance(self, timeline: Timeline, changed: LivedStep | None) -> None:
        """Take in the timeline; ``changed`` is what `Timeline.update` returned."""
        if changed is None:
            return
        judged = self._judged
        if judged is None or changed <= judged:
            self.alerts = []
            self._restart([])
            judged = self._judged = None
        for key in sorted(timeline.lived):
            if judged is None or key > judged:
                self._enter(timeline, key)
        for attempt, start in timeline.starts.items():
            self._supersede(attempt, start)

    def states(self) -> dict[str, RuleState]:
        """Where each rule stands."""
        known: dict[str, RuleState] = {track.rule.name: track.state for track in self._tracks}
        return {rule.name: known.get(rule.name, "no data") for rule in self.policy.rules}

    def _enter(self, timeline: Timeline, key: LivedStep) -> None:
        if self._judged is None or key.attempt != self._judged.attempt:
            start = timeline.starts.get(key.attempt, key.step)
            self._supersede(key.attempt, start)
            if any(row["step"] >= start for row in self._history):
                self._rewind(start)
        self._history.append(timeline.lived[key].values)
        for track in self._tracks:
            track.judge(self._history, self.alerts)
        self._judged = key

    def _rewind(self, start: int) -> None:
        """Bring all rules to where they stood before step ``start``."""
        kept = [row for row in self._history if row["step"] < start]
        settled = [alert for alert in self.alerts if alert.state == "superseded"]
        self.alerts = []
        self._restart([])
        for row in kept:
            self._history.append(row)
            for track in self._tracks:
                track.judge(self._history, self.alerts)
        self.alerts = settled + self.alerts

    def _restart(self, history: list[Row]) -> None:
        self._history = history
        self._tracks = [_RuleTrack(rule) for rule in self.policy.rules]

    def _supersede(self, attempt: int, start: int) -> None:
        self.alerts = [
            replace(alert, state="superseded")
            if alert.attempt < attempt and alert.step >= start
            else alert
            for alert in self.alerts
        ]
