"""Runs as calibration sees them, and rules played over them."""

from dataclasses import dataclass

from mmhealth.health.alerts import Alert
from mmhealth.health.calibration.harm import Harm, find_harm
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.rules import SOLVED_SUCCESS_RATE, Rule
from mmhealth.health.timeline import Timeline
from mmhealth.health.track import RuleTrack
from mmhealth.runlog import Run


@dataclass(frozen=True, slots=True)
class Course:
    """The steps of a run that stand, and what became of it."""

    name: str
    steps: tuple[StepMetrics, ...]
    harm: Harm
    family: str = ""
    """What runs of like kind share, such as their environment: left out together."""

    @property
    def is_healthy(self) -> bool:
        """Known to have come to no harm."""
        return self.harm.kind == "none"

    @property
    def is_sick(self) -> bool:
        """It stalled or regressed."""
        return self.harm.kind in ("stall", "regression")


def read_course(
    run: Run, *, name: str = "", family: str = "", solved_at: float = SOLVED_SUCCESS_RATE
) -> Course:
    """Read a whole run."""
    timeline = Timeline(run)
    timeline.update()
    steps = tuple(metrics for _, metrics in timeline.visible())
    harm = find_harm(run.evaluations, solved_at)
    return Course(name or run.name, steps, harm, family)


def alarms(rule: Rule, steps: tuple[StepMetrics, ...]) -> list[Alert]:
    """The alerts of one rule, judged step by step as a monitor does."""
    track, history, fired = RuleTrack(rule), list[StepMetrics](), list[Alert]()
    for step in steps:
        history.append(step)
        track.judge(history, fired)
    return fired


def judged_steps(rule: Rule, steps: tuple[StepMetrics, ...]) -> int:
    """Steps that had data for the rule."""
    return sum(
        step.values.get(rule.metric) is not None and step.rows_behind(rule.metric) >= rule.min_rows
        for step in steps
    )
