"""How steps without data count towards a breach."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.health import Alert, Monitor, Policy, Rule, default_policy
from mmhealth.health.metrics import StepMetrics


def play(path: Path, rewards: list[float | None], for_steps: int) -> tuple[list[Alert], list[str]]:
    """Record one step a reward; return the alerts and the rule's state after each step."""
    states = []
    rule = Rule(name="low", metric="reward", below=0.2, for_steps=for_steps)
    with Recorder(path) as rec:
        monitor = Monitor(path, Policy((rule,)))
        for step, reward in enumerate(rewards):
            rec.log_step(step, {"turns": [1]} if reward is None else {"reward": [reward]})
            monitor.poll()
            states.append(monitor.rule_engine.states()["low"])
    return monitor.alerts, states


@pytest.mark.parametrize("every", [2, 3, 4])
def test_holes_at_regular_steps_do_not_keep_a_rule_from_firing(tmp_path: Path, every: int) -> None:
    rewards = [None if step % every == every - 1 else 0.1 for step in range(12)]
    alerts, _ = play(tmp_path, rewards, 3)
    assert [alert.pending_step for alert in alerts] == [0]


@pytest.mark.parametrize(("silent", "fires"), [(5, True), (6, False)])
def test_a_long_silence_starts_the_count_anew(tmp_path: Path, silent: int, fires: bool) -> None:
    rewards = [0.1, *[None] * silent, 0.1]
    alerts, states = play(tmp_path, rewards, 2)
    assert bool(alerts) == fires
    assert states[-1] == ("firing" if fires else "pending")


FEW, ENOUGH = 2, 8


def judge(path: Path, rule: Rule, steps: list[tuple[int, float]]) -> list[Alert]:
    """Record steps of so many rows with this reward, which rises in ``entropy``."""
    with Recorder(path, strict=True) as rec:
        for step, (rows, reward) in enumerate(steps):
            rec.log_step(step, {"reward": [reward] * rows, "entropy": [float(step)] * rows})
    monitor = Monitor(path, Policy((rule,)))
    monitor.poll()
    return monitor.alerts


def test_steps_of_too_few_rows_make_no_baseline(tmp_path: Path) -> None:
    rule = Rule(name="low", metric="reward", below_baseline=0.5, baseline_steps=5, min_rows=ENOUGH)
    steps = [(FEW, 10.0)] * 5 + [(ENOUGH, 1.0)] * 9
    assert not judge(tmp_path / "steady", rule, steps)
    [alert] = judge(tmp_path / "fallen", rule, [*steps, (ENOUGH, 0.25)])
    assert (alert.step, alert.threshold) == (14, 0.5)


def test_steps_of_too_few_rows_lie_in_no_window_of_a_fall(tmp_path: Path) -> None:
    rule = Rule(
        name="fall",
        metric="reward",
        falls_by=0.5,
        while_rising="entropy",
        window=3,
        min_rows=ENOUGH,
    )
    steady = [(ENOUGH, 1.0), (FEW, 10.0)] * 6
    assert not judge(tmp_path / "steady", rule, steady)
    [alert] = judge(tmp_path / "fallen", rule, steady + [(ENOUGH, 0.0), (FEW, 10.0)] * 3)
    assert (alert.step, alert.threshold) == (14, 0.5)
    assert alert.value == pytest.approx(1 / 3)


@pytest.mark.parametrize("wild", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "rule",
    [
        Rule(name="low", metric="reward", below_baseline=0.5, baseline_steps=3),
        Rule(name="low", metric="reward", below_baseline=0.5, baseline="reference", mean_of=2),
        Rule(name="fall", metric="reward", falls_by=0.5, while_rising="entropy", window=3),
    ],
    ids=lambda rule: "falls_by" if rule.falls_by else rule.baseline,
)
def test_values_that_are_not_finite_are_no_data(rule: Rule, wild: float) -> None:
    def history(rewards: list[float], beside: float) -> list[StepMetrics]:
        known = {"attempt": 0, "n": 1, "complete": True}
        return [
            StepMetrics(
                known | {"step": step, "reward": reward, "entropy": float(step)},
                reference={"reward": beside},
            )
            for step, reward in enumerate(rewards)
        ]

    rewards = [1.0] * 7
    if rule.baseline == "reference":
        assert rule.judge(history(rewards, 1.0)).reading == "recovered"
        assert rule.judge(history(rewards, wild)).reading == "no data"
        return
    judged = rule.judge(history(rewards, 1.0))
    assert judged.reading == "recovered"
    assert rule.judge(history([1.0, wild, *rewards], 1.0)) == judged
    assert rule.judge(history([*rewards[:4], wild, *rewards[4:]], 1.0)) == judged


class NothingBefore(list[StepMetrics]):
    """A history whose last step may be looked at, and no other."""

    def __getitem__(self, place: Any) -> Any:
        assert place == -1
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[StepMetrics]:
        raise AssertionError("looked at all steps")

    __reversed__ = __iter__


@pytest.mark.parametrize(
    "rule", [r for r in default_policy().rules if r.drift_fraction is None], ids=lambda r: r.name
)
def test_a_step_without_data_costs_no_look_at_those_before(rule: Rule) -> None:
    step = StepMetrics({"step": 9, "attempt": 0, "n": 64, "complete": True, "reward": 1.0})
    assert rule.judge(NothingBefore([step])).reading == "no data"
