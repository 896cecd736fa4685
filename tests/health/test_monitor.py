"""What subscribers are told."""

from pathlib import Path

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
    assert live.engine.never_judged() == ["low"]
    record(5, 6)
    assert live.alerts == [], "one step of the attempt is breached, the rule asks for two"
    record(4, 8)
    fresh = Monitor(tmp_path, POLICY, first_attempt=2)
    fresh.poll()
    for monitor in (live, fresh):
        assert [(a.attempt, a.pending_step, a.step) for a in monitor.alerts] == [(3, 4, 5)]
        assert monitor.timeline.frame["step"].to_list() == list(range(8))
