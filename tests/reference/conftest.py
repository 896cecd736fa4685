"""Small versions of the documented runs, and an alarm to switch the ESS loop by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mmhealth.reference import StepLog, TrainConfig, preset


class Alarm:
    """A source of alerts that fires at one step, resolves at another, and replays on a restart."""

    rule = "ess_signal"

    def __init__(self, fires: int, resolves: int) -> None:
        self.step, self.resolves = fires, resolves
        self.state = "inactive"
        self.resolved_step: int | None = None
        self.now = 0
        self.subscribers = []

    def subscribe(self, subscriber) -> None:
        self.subscribers.append(subscriber)

    def saw(self, log: StepLog) -> None:
        self.now = log.step

    def poll(self) -> None:
        state = "inactive"
        if self.now >= self.step:
            state = "firing"
        if self.now >= self.resolves:
            state, self.resolved_step = "resolved", self.resolves
        if state != self.state:
            self.state = state
            for subscriber in self.subscribers:
                subscriber(self)


@pytest.fixture
def alarm() -> Callable[[int, int], Alarm]:
    return Alarm


@pytest.fixture
def small() -> Callable[..., TrainConfig]:
    """(environment, preset, **knobs of the loop) -> the documented run with fewer trajectories."""

    def make(environment: str, name: str = "baseline", **knobs) -> TrainConfig:
        config = preset(environment, name)
        fixes = config.fixes
        if fixes.ess is not None:
            fixes = replace(fixes, ess=replace(fixes.ess, hold=3, half_life=0))
        defaults = {"group_size": min(config.loop.group_size, 4), "hidden": 8, "eval_episodes": 8}
        loop = replace(config.loop, **(defaults | knobs))
        return replace(config, loop=loop, fixes=fixes, steps=14)

    return make
