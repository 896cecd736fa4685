"""When a metric on its way will cross a rule's threshold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.health.forecast import Forecast, forecast_run
from mmhealth.health.policy import parse_policy

LOW = "version = 1\n[rules.low]\nmetric = 'reward'\nseverity = 'critical'\n"


def falling(steps: int, slope: float = -0.01, seed: int = 0) -> list[float | None]:
    """A line from 0.8, with a little noise."""
    noise = np.random.default_rng(seed).normal(size=steps)
    return [float(value) for value in 0.8 + slope * np.arange(steps) + 0.02 * noise]


def forecasts(
    path: Path, rewards: list[float | None], rules: str, **columns: Any
) -> tuple[Forecast, ...]:
    with Recorder(path, strict=True) as rec:
        for step, reward in enumerate(rewards):
            rec.log_step(step, {"turns": [1]} if reward is None else {"reward": [reward]} | columns)
    monitor = Monitor(path, parse_policy(rules, "test"))
    monitor.poll()
    return forecast_run(monitor)


def test_a_fall_towards_a_threshold_is_forecast(tmp_path: Path) -> None:
    [found] = forecasts(tmp_path, falling(45), LOW + "below = 0.2\n")
    assert (found.rule, found.metric, found.severity) == ("low", "reward", "critical")
    assert (found.step, found.values, found.threshold) == (44, 40, 0.2)
    assert found.low <= 60 - 44 <= found.high
    assert found.slope == pytest.approx(-0.01, rel=0.1)
    assert found.message.startswith("low: reward falls by 0.0")
    assert f"below 0.2 in {found.steps} steps, at step {44 + found.steps}" in found.message
    assert f"90 % interval: {found.low} to {found.high} steps" in found.message


@pytest.mark.parametrize(
    "rule",
    [
        "below = 0.5\n",  # fires
        "above = 0.9\n",  # leads away
        "falls_by = 0.9\n",  # has no fixed threshold
        "drifts_below = 0.1\n",
        "below = 0.2\nmin_rows = 2\n",
        "below = -0.5\n",  # beyond the horizon
    ],
)
def test_there_is_none_where_there_is_nothing_to_say(tmp_path: Path, rule: str) -> None:
    assert not forecasts(tmp_path, falling(45), LOW + rule)


def test_there_is_none_without_a_trend_or_with_few_values(tmp_path: Path) -> None:
    assert not forecasts(tmp_path / "flat", falling(45, slope=0.0), LOW + "below = 0.75\n")
    assert not forecasts(tmp_path / "short", falling(19), LOW + "below = 0.2\n")


def test_a_rise_and_a_fraction_of_the_baseline(tmp_path: Path) -> None:
    [up] = forecasts(tmp_path / "up", falling(45, slope=0.01), LOW + "above = 1.4\n")
    assert up.low <= 60 - 44 <= up.high
    assert "rises by 0.01 a step; at this rate above 1.4" in up.message
    [share] = forecasts(
        tmp_path / "share", falling(45), LOW + "below_baseline = 0.25\nbaseline_steps = 5\n"
    )
    assert share.threshold == pytest.approx(0.25 * 0.78, abs=0.01)


def test_holes_cost_values_and_a_metric_that_ended_has_no_future(tmp_path: Path) -> None:
    course = falling(60)
    holed = [None if step % 3 == 1 else value for step, value in enumerate(course)]
    [found] = forecasts(tmp_path / "holed", holed[:46], LOW + "below = 0.2\n")
    assert (found.step, found.values) == (45, 31)
    assert found.low <= 60 - 45 <= found.high
    assert not forecasts(tmp_path / "ended", course[:45] + [None] * 6, LOW + "below = 0.2\n")


def ess_run(path: Path, success: float, steps: int = 45) -> Path:
    """Ever fewer groups of eight have a signal; of the others a share is solved, the rest fail."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(64), 8)
    with Recorder(path, strict=True) as rec:
        for step in range(steps):
            mixed = group < 60 - step + rng.integers(-1, 2)
            solved = np.where(mixed, np.arange(512) % 2 == 0, group >= 64 - 64 * success)
            advantage = np.where(mixed, np.where(solved, 0.5, -0.5), 0.0)
            rec.log_step(
                step,
                {
                    "group_id": group,
                    "reward": solved.astype(float),
                    "success": solved,
                    "advantage": advantage,
                },
            )
    return path


RULES = """version = 1
[rules.plain]
metric = "ess_signal"
below = 0.2
[rules.excusing]
metric = "ess_signal"
below = 0.2
excuse_solved = true
"""


def test_solved_groups_are_no_way_to_a_breach_of_a_rule_that_excuses_them(tmp_path: Path) -> None:
    for success, expected in ((0.0, ["plain", "excusing"]), (1.0, ["plain"])):
        monitor = Monitor(ess_run(tmp_path / str(success), success), parse_policy(RULES, "test"))
        monitor.poll()
        found = forecast_run(monitor)
        assert [forecast.rule for forecast in found] == expected
        for forecast in found[1:]:
            assert forecast.metric == "ess_signal_unsolved"


def test_what_a_later_attempt_hides_is_not_extrapolated(tmp_path: Path) -> None:
    policy = parse_policy(LOW + "below = 0.2\n", "test")
    with Recorder(tmp_path) as rec:
        for step, value in enumerate(falling(45)):
            rec.log_step(step, {"reward": [value]})
    with Recorder(tmp_path, start_step=15) as rec:
        rec.log_step(15, {"reward": [0.65]})
    monitor = Monitor(tmp_path, policy)
    monitor.poll()
    assert not forecast_run(monitor)
