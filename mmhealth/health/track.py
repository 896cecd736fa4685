"""One rule's way through the steps: inactive -> pending -> firing -> resolved."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmhealth.health.alerts import Alert, RuleState
from mmhealth.health.drift import Drift
from mmhealth.health.judgement import PATIENCE, Judgement
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.rules import Rule
from mmhealth.health.undecided import Doubt, IntervalRecord


@dataclass(slots=True)
class RuleTrack:
    """Where one rule stands."""

    rule: Rule
    state: RuleState = "no data"
    breached: int = 0
    silent: int = 0
    """Steps without data since the last breached one."""
    pending_step: int = 0
    recovered: int = 0
    current: Alert | None = None
    judged: int = 0
    """Steps at which the rule has compared a value with its threshold."""
    drift: Drift | None = None
    """What a drift rule remembers of the history."""
    intervals: IntervalRecord = field(default_factory=IntervalRecord)
    """What became of the intervals that the rule demands."""
    latest: tuple[int, Judgement] | None = None
    """The last judgement that compared a value with a threshold, and its step."""

    def judge(self, history: Sequence[StepMetrics], fired: list[Alert]) -> Judgement:
        """Take in the last step of the history; append the alert that fires, if one does."""
        judgement = self._judgement(history)
        if judgement.value is not None:
            self.judged += 1
            self.latest = (history[-1].values["step"], judgement)
        if self.rule.demand_interval is not None:
            about = self.rule.name, self.rule.metric
            self.intervals = self.intervals.after(*about, judgement, history[-1].values["step"])
        if self.current is not None:
            self._while_firing(judgement, self.current, history[-1])
        elif judgement.reading == "breached":
            self._count_breach(judgement, history[-1], fired)
        elif judgement.reading == "no data":
            self.state = "no data"
            self.silent += 1
            if self.silent > PATIENCE:
                self.breached = 0
        else:
            self.breached = 0
            self.state = "solved" if judgement.reading == "solved" else "inactive"
        return judgement

    @property
    def doubt(self) -> Doubt | None:
        """Set where the rule does not fire and would, had every step not decided been a breach."""
        known = self.current is None and self.intervals.in_a_row >= self.rule.for_steps
        return self.intervals.doubt if known else None

    def recall(self, step: StepMetrics) -> None:
        """Take in a step that is history only: it makes a baseline, and is evidence of nothing."""
        if self.rule.drift_fraction is not None:
            drift, _ = self.rule.follow(self.drift, step)
            self.drift = drift.anew()

    def _judgement(self, history: Sequence[StepMetrics]) -> Judgement:
        if self.rule.drift_fraction is None:
            return self.rule.judge(history)
        self.drift, judgement = self.rule.follow(self.drift, history[-1])
        return judgement

    def _count_breach(self, judgement: Judgement, step: StepMetrics, fired: list[Alert]) -> None:
        if self.breached == 0:
            self.pending_step = step.values["step"]
        self.breached += 1
        self.silent = 0
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
            step=step.values["step"],
            resolved_step=None,
            attempt=step.values["attempt"],
            value=judgement.value,
            worst=judgement.value,
            threshold=judgement.threshold,
            rows=step.rows_behind(self.rule.metric),
            partial=not step.values["complete"],
            meaning=self.rule.meaning,
            failure_mode=self.rule.failure_mode,
            fix=self.rule.fix,
            interval=judgement.interval,
        )
        fired.append(self.current)

    def _while_firing(self, judgement: Judgement, alert: Alert, step: StepMetrics) -> None:
        recovered = judgement.reading in ("recovered", "solved")
        value = None if judgement.reading == "recovered" else judgement.value
        if value is not None and self.rule.is_worse(value, alert.worst):
            alert.worst = value
        if judgement.reading != "no data":
            self.recovered = self.recovered + 1 if recovered else 0
        if self.recovered >= self.rule.recover_steps:
            alert.state = "resolved"
            alert.resolved_step = step.values["step"]
            self.current = None
            self.breached = 0
            self.state = "solved" if judgement.reading == "solved" else "inactive"
