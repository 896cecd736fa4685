"""What a monitor takes in, and what subscribers are told."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.health import Alert, Monitor
from mmhealth.health.policy import parse_policy

POLICY = parse_policy(
    "version = 1\n[rules.low]\nmetric = 'reward'\nbelow = 0.2\nfor_steps = 2\n", "test"
)


def amend(rec: Recorder, steps: dict[int, float], now: int) -> None:
    """Late rewards of trajectory 1; on disk when the step ``now``, which has none, is."""
    for step, value in steps.items():
        rec.amend(step, 1, "reward", value, arrived_step=now)
    rec.log_step(now, {"turns": [1]})


def test_an_alert_that_late_data_take_back_is_told_as_superseded(tmp_path: Path) -> None:
    told: list[Alert] = []
    with Recorder(tmp_path) as rec:
        monitor = Monitor(tmp_path, POLICY)
        monitor.subscribe(told.append)
        for step in range(4):
            rec.log_step(step, {"reward": [0.0, None]})
            monitor.poll()
        assert [(a.state, a.step) for a in told] == [("firing", 1)]
        amend(rec, {0: 9.0}, 4)
        changed = monitor.poll()
        expected = [("superseded", 1), ("firing", 2)]
        assert [(a.state, a.step) for a in changed] == expected
        assert [(a.state, a.step) for a in told[1:]] == expected
        assert [a.step for a in monitor.alerts] == [2]
        amend(rec, {1: 9.0, 2: 9.0, 3: 9.0}, 5)
        monitor.poll()
    assert [(a.state, a.step) for a in told[3:]] == [("superseded", 2)]
    assert not monitor.alerts
    assert not monitor.poll()


def test_what_is_taken_back_and_fires_again_is_told_again(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    with Recorder(tmp_path) as rec:
        monitor = Monitor(tmp_path, POLICY)
        monitor.subscribe(lambda alert: told.append((alert.state, alert.step)))
        for step in range(2):
            rec.log_step(step, {"reward": [0.0, 0.0]})
        monitor.poll()
        for now, value in ((2, 9.0), (3, 0.0)):
            amend(rec, {1: value}, now)
            monitor.poll()
    assert told == [("firing", 1), ("superseded", 1), ("firing", 1)]


def test_subscribers_cannot_change_what_the_monitor_knows(tmp_path: Path) -> None:
    def spoil(alert: Alert) -> None:
        alert.state, alert.step = "resolved", 99

    with Recorder(tmp_path) as rec:
        for step in range(3):
            rec.log_step(step, {"reward": [0.0]})
    monitor = Monitor(tmp_path, POLICY)
    monitor.subscribe(spoil)
    monitor.subscribe(spoil)
    [changed] = monitor.poll()
    assert (changed.state, changed.step) == ("firing", 1)
    assert [(a.state, a.step) for a in monitor.alerts] == [("firing", 1)]


def test_a_recorders_monitor_calls_back(tmp_path: Path) -> None:
    told: list[Alert] = []
    with Recorder(tmp_path) as rec:
        monitor = Monitor(rec, POLICY, on_alert=told.append)
        for step in range(2):
            rec.log_step(step, {"reward": [0.0]})
            monitor.poll()
    assert [(a.state, a.step) for a in told] == [("firing", 1)]


def test_older_attempts_can_be_history_that_no_rule_counts(tmp_path: Path) -> None:
    def record(first: int, last: int) -> None:
        with Recorder(tmp_path, start_step=first) as rec:
            for step in range(first, last):
                rec.log_step(step, {"reward": [0.0]})
                live.poll()

    Recorder(tmp_path).close()
    live = Monitor(tmp_path, POLICY, first_attempt=2)
    record(0, 5)
    assert live.alerts == []
    assert live.rule_engine.never_judged() == ["low"]
    record(5, 6)
    assert live.alerts == [], "one step of the attempt is breached, the rule asks for two"
    record(4, 8)
    fresh = Monitor(tmp_path, POLICY, first_attempt=2)
    fresh.poll()
    for monitor in (live, fresh):
        assert [(a.attempt, a.pending_step, a.step) for a in monitor.alerts] == [(3, 4, 5)]
        assert monitor.timeline.frame["step"].to_list() == list(range(8))


@pytest.mark.parametrize("seed", range(2))
def test_a_reference_that_grows_is_read_as_it_grows(tmp_path: Path, seed: int) -> None:
    """It lags, runs ahead, gets late data and starts again, while the run is watched."""
    rng, stack = random.Random(seed), ExitStack()
    rules = parse_policy(
        "version = 1\nreference = 'good'\n[rules.low]\nmetric = 'reward'\nfor_steps = 2\n"
        "below_baseline = 0.8\nbaseline = 'reference'\n[rules.drift]\nmetric = 'reward'\n"
        "drifts_below = 0.8\nbaseline = 'reference'\nfalse_alarms_per_1000 = 200\n",
        "test",
        tmp_path,
    )
    told: set[tuple[str, str]] = set()
    with stack:
        good = stack.enter_context(Recorder(tmp_path / "good", strict=True))
        run = stack.enter_context(Recorder(tmp_path / "run", strict=True))
        live = Monitor(run, rules, on_alert=lambda alert: told.add((alert.rule, alert.state)))
        step, beside = 0, 0
        for _ in range(60):
            dice = rng.random()
            if dice < 0.45:
                run.log_step(step, {"reward": [rng.choice([0.1, 0.5, 1.0])]})
                step += 1
            elif dice < 0.95:
                if beside and rng.random() < 0.3:
                    good.amend(rng.randrange(beside), 0, "reward", 0.2, arrived_step=beside)
                good.log_step(beside, {"reward": [rng.choice([None, 0.5, 1.0])], "turns": [1]})
                beside += 1
            else:
                beside = rng.randrange(beside + 1)
                good = stack.enter_context(
                    Recorder(tmp_path / "good", strict=True, start_step=beside)
                )
            live.poll()
            if rng.random() < 0.6:
                continue
            fresh = Monitor(tmp_path / "run", rules)
            fresh.poll()
            assert live.alerts == fresh.alerts
            assert live.rule_engine.states() == fresh.rule_engine.states()
    assert {("low", "firing"), ("drift", "firing")} <= told


def test_a_step_of_the_reference_that_comes_late_is_judged_by(tmp_path: Path) -> None:
    rules = parse_policy(
        "version = 1\nreference = 'good'\n[rules.low]\nmetric = 'reward'\n"
        "below_baseline = 0.8\nbaseline = 'reference'\n",
        "test",
        tmp_path,
    )
    with Recorder(tmp_path / "good") as good, Recorder(tmp_path / "run") as run:
        monitor = Monitor(run, rules)
        run.log_step(0, {"reward": [0.1]})
        assert not monitor.poll()
        good.log_step(0, {"reward": [1.0]})
        assert [(a.step, a.threshold) for a in monitor.poll()] == [(0, 0.8)]
        assert not monitor.poll()
