"""Runs as calibration sees them, and rules played over them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import polars as pl

from mmhealth.engines import Engine
from mmhealth.health.alerts import Alert
from mmhealth.health.calibration.harm import Harm, find_harm
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.rules import Rule
from mmhealth.health.solved import SOLVED_SUCCESS_RATE
from mmhealth.health.step_intervals import Demand
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
        """It stalled, regressed or never learned."""
        return self.harm.kind in ("stall", "regression", "never")

    @property
    def healthy_steps(self) -> tuple[StepMetrics, ...]:
        """Of a healthy run, the steps up to which it is known to be one."""
        known_to = self.harm.known_to
        if not self.is_healthy or known_to is None:
            return ()
        return tuple(step for step in self.steps if step.values["step"] <= known_to)


def read_course(
    run: Run,
    *,
    name: str = "",
    family: str = "",
    solved_at: float = SOLVED_SUCCESS_RATE,
    demanded: Collection[Demand] = (),
    engine: Engine | None = None,
) -> Course:
    """Read a whole run, with the intervals that the rules to be played demand; on an engine, if so.

    Without harm it is known to be healthy only before the first intervention that it logs: what
    would have become of it without, nobody knows.
    """
    timeline = Timeline(run, demanded, engine=engine)
    timeline.update()
    steps = tuple(metrics for _, metrics in timeline.visible())
    harm = find_harm(run.evaluations, solved_at)
    treated = _first_intervention(run)
    if harm.known_to is not None and treated is not None:
        harm = replace(harm, known_to=min(harm.known_to, treated - 1))
    return Course(name or run.name, steps, harm, family)


def _first_intervention(run: Run) -> int | None:
    events = run.events
    if events.is_empty():
        return None
    steps = events.filter(pl.col("kind") == "intervention")["step"].drop_nulls().to_list()
    return min(steps, default=None)


@dataclass(frozen=True, slots=True)
class Played:
    """What rules made of the steps of a run."""

    alerts: tuple[Alert, ...]
    """In the order in which they fired."""
    judged_steps: int
    """Steps with data."""
    quiet_steps: int
    """Steps with data at whose beginning no alert stood: those at which one could fire."""
    alarms: int
    """Times that an alert fired while none stood."""


def play(rules: Sequence[Rule], steps: Sequence[StepMetrics]) -> Played:
    """Judge the steps one by one, as a monitor does."""
    tracks, history = [RuleTrack(rule) for rule in rules], list[StepMetrics]()
    fired: list[Alert] = []
    known, quiet, alarms = 0, 0, 0
    for step in steps:
        history.append(step)
        stood, before = any(track.current is not None for track in tracks), len(fired)
        judged = [track.judge(history, fired) for track in tracks]
        has_data = any(judgement.reading != "no data" for judgement in judged)
        known += has_data
        if not stood:
            quiet += has_data
            alarms += len(fired) > before
    return Played(tuple(fired), known, quiet, alarms)
