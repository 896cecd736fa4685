"""What became of the intervals that a rule demanded, and whether they leave it undecided."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from mmhealth.estimators import PopulationInterval
from mmhealth.health.judgement import PATIENCE, Judgement


@dataclass(frozen=True, slots=True)
class Doubt:
    """A rule that might fire at a step, did its intervals only tell."""

    rule: str
    metric: str
    since: int
    """First step of those in a row that were breached or not decided."""
    step: int
    """The last of them that was not decided."""
    value: float | None
    """Batch value; None where there is no interval."""
    threshold: float | None
    interval: PopulationInterval | None
    why: str

    @property
    def message(self) -> str:
        """In one sentence."""
        value = "" if self.value is None else f" = {self.value:.3g}"
        since = "" if self.since == self.step else f", undecided since step {self.since}"
        return f"{self.rule}: {self.metric}{value} at step {self.step}{since}: {self.why}."

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see docs/audit-json.md."""
        return asdict(self) | {"message": self.message}


@dataclass(frozen=True, slots=True)
class IntervalRecord:
    """What became of the intervals that a rule demanded, over the steps that it judged."""

    given: int = 0
    """Steps with an interval."""
    unreliable: int = 0
    """Steps with one whose jackknife is unreliable, whether or not zeros stand in for it."""
    missing: int = 0
    """Steps at which the value is known and no interval could be given."""
    undecided: int = 0
    """Steps left undecided, by an interval or for want of one."""
    last: PopulationInterval | None = None
    last_step: int | None = None
    """Step of ``last``."""
    why: str = ""
    """What was said at the last step left undecided."""
    in_a_row: int = 0
    """Last steps in a row that were breached or not decided."""
    since: int = 0
    """The first of these."""
    doubt: Doubt | None = None
    """Of the last of these that was not decided."""
    silent: int = 0

    def after(self, rule: str, metric: str, judgement: Judgement, step: int) -> "IntervalRecord":
        """With one more step."""
        if judgement.reading == "no data" and not judgement.why:
            if self.silent < PATIENCE:
                return replace(self, silent=self.silent + 1)
            return replace(self, silent=self.silent + 1, in_a_row=0, doubt=None)
        told = self._counting(judgement, step)
        if judgement.reading != "breached" and not judgement.why:
            return replace(told, in_a_row=0, doubt=None)
        since = self.since if self.in_a_row else step
        told = replace(told, in_a_row=self.in_a_row + 1, since=since)
        if not judgement.why:
            return told
        doubt = Doubt(
            rule,
            metric,
            told.since,
            step,
            judgement.value,
            judgement.threshold,
            judgement.interval,
            judgement.why,
        )
        return replace(told, doubt=doubt, why=judgement.why)

    def _counting(self, judgement: Judgement, step: int) -> "IntervalRecord":
        interval = judgement.interval
        given = interval is not None
        return replace(
            self,
            given=self.given + given,
            unreliable=self.unreliable + bool(interval and interval.why),
            missing=self.missing + (judgement.why != "" and not given),
            undecided=self.undecided + (judgement.why != ""),
            last=interval or self.last,
            last_step=step if given else self.last_step,
            silent=0,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see docs/audit-json.md."""
        last = None if self.last is None else asdict(self.last) | {"step": self.last_step}
        counts = {name: getattr(self, name) for name in _COUNTS}
        return counts | {"last": last, "why": self.why}


_COUNTS = ("given", "unreliable", "missing", "undecided")
