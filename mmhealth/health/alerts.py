"""An alert, and the states a rule goes through."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mmhealth.estimators import PopulationInterval

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")

RuleState = Literal["inactive", "pending", "firing", "solved", "no data"]
"""``solved``: the condition holds, but only because groups are solved."""

AlertState = Literal["firing", "resolved", "superseded"]
"""``superseded``: a later attempt hides the step at which it fired, or, as subscribers are told,
data that arrived late took it back: judged again the rule does not fire there."""


def describe_interval(interval: PopulationInterval) -> str:
    """An interval as alerts state it."""
    return (
        f"{100 * interval.level:g} % interval {interval.low:.3g} to {interval.high:.3g}, "
        f"{interval.groups} groups"
    )


@dataclass(slots=True)
class Alert:
    """One firing of one rule, from the step it fired to the step it resolved."""

    rule: str
    metric: str
    severity: Severity
    state: AlertState
    pending_step: int
    """First step of the breach."""
    step: int
    """Step at which it fired."""
    resolved_step: int | None
    attempt: int
    value: float
    """Value of the metric when it fired."""
    worst: float
    """Worst value while it fired."""
    threshold: float
    rows: int
    """Rows behind the value: those that the metric describes."""
    partial: bool
    """The step that made it fire was incomplete."""
    meaning: str
    failure_mode: str
    fix: str
    interval: PopulationInterval | None = None
    """Of the population when it fired, where the rule demands it."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Identity of the alert within its run."""
        return (self.rule, self.attempt, self.step)

    @property
    def message(self) -> str:
        """What happened, in one sentence."""
        to = "" if self.resolved_step is None else f", resolved at step {self.resolved_step}"
        within = "" if self.interval is None else f" ({describe_interval(self.interval)})"
        partial = " (from an incomplete step)" if self.partial else ""
        return (
            f"{self.rule}: {self.metric} = {self.value:.3g}{within} against {self.threshold:.3g} "
            f"at step {self.step} over {self.rows} rows{partial}, breached since step "
            f"{self.pending_step}{to}."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see docs/audit-json.md."""
        interval = None if self.interval is None else asdict(self.interval)
        fields = {name: getattr(self, name) for name in _FIELDS}
        return fields | {"interval": interval, "message": self.message}


_FIELDS = (
    "rule",
    "metric",
    "severity",
    "state",
    "pending_step",
    "step",
    "resolved_step",
    "attempt",
    "value",
    "worst",
    "threshold",
    "rows",
    "partial",
    "meaning",
    "failure_mode",
    "fix",
)
