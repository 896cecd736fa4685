"""Rules through their states, on timelines of real runs."""

import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import Alert, Monitor
from mmhealth.health.policy import Policy, parse_policy

HEADER = "version = 1\n[rules.low]\nmetric = 'reward'\nseverity = 'critical'\n"


def policy(text: str) -> Policy:
    return parse_policy(HEADER + text, "test")


def play(path: Path, rewards: list[float | None], rules: Policy) -> tuple[list[Alert], list[str]]:
    """Record one step a reward; return the alerts and the rule's state after each step."""
    states = []
    with Recorder(path) as rec:
        monitor = Monitor(path, rules)
        for step, reward in enumerate(rewards):
            columns = {"turns": [1] * 4} if reward is None else {"reward": [reward] * 4}
            rec.log_step(step, columns)
            monitor.poll()
            states.append(monitor.rule_engine.states()["low"])
    again = Monitor(path, rules)
    again.poll()
    assert again.alerts == monitor.alerts
    return monitor.alerts, states


def test_pending_firing_resolved(tmp_path: Path) -> None:
    rewards: list[float | None] = [1, 0.1, 0.1, 0.1, 0.05, 0.25, 0.35, 1]
    alerts, states = play(tmp_path, rewards, policy("below = 0.2\nrecover = 0.3\nfor_steps = 3"))
    assert states == [
        "inactive",
        "pending",
        "pending",
        "firing",
        "firing",
        "firing",
        "inactive",
        "inactive",
    ]
    [alert] = alerts
    assert (alert.pending_step, alert.step, alert.resolved_step) == (1, 3, 6)
    assert (alert.value, alert.worst, alert.threshold, alert.rows) == (0.1, 0.05, 0.2, 4)
    assert alert.state == "resolved"
    assert "reward = 0.1 against 0.2 at step 3 over 4 rows" in alert.message


def test_a_value_between_threshold_and_recovery_does_not_keep_a_rule_pending(
    tmp_path: Path,
) -> None:
    rewards: list[float | None] = [0.1, 0.25, 0.1, 0.25, 0.1]
    alerts, states = play(tmp_path, rewards, policy("below = 0.2\nrecover = 0.3\nfor_steps = 2"))
    assert not alerts
    assert states == ["pending", "inactive", "pending", "inactive", "pending"]


def test_missing_data_is_a_state_of_its_own(tmp_path: Path) -> None:
    rewards: list[float | None] = [None, 0.1, None, 0.1, 0.1, None, None, 1.0]
    alerts, states = play(tmp_path, rewards, policy("below = 0.2\nfor_steps = 3"))
    assert states[:3] == ["no data", "pending", "no data"]
    assert states[3:5] == ["pending", "firing"]
    assert states[5:7] == ["firing", "firing"]
    [alert] = alerts
    assert (alert.pending_step, alert.step, alert.resolved_step) == (1, 4, 7)


def test_too_few_rows_are_no_data(tmp_path: Path) -> None:
    alerts, states = play(tmp_path, [0.1, 0.1], policy("below = 0.2\nmin_rows = 5"))
    assert not alerts
    assert states == ["no data", "no data"]


def test_above(tmp_path: Path) -> None:
    alerts, _ = play(tmp_path, [1, 5, 7, 2, 1], policy("above = 4\nrecover = 1.5"))
    assert [(a.step, a.worst, a.resolved_step) for a in alerts] == [(1, 7, 4)]


def test_below_a_fraction_of_the_baseline(tmp_path: Path) -> None:
    rules = policy("below_baseline = 0.5\nbaseline_steps = 3\nrecover = 0.8")
    alerts, states = play(tmp_path, [0.1, 10, 10, 10.1, 3, 5, 9], rules)
    assert states[:3] == ["no data"] * 3
    [alert] = alerts
    assert alert.threshold == pytest.approx(0.5 * 20.1 / 3)
    assert (alert.step, alert.resolved_step) == (4, 6)


def test_the_silent_collapse_needs_a_rising_reward(tmp_path: Path) -> None:
    text = """version = 1
[rules.low]
metric = "ess_contribution"
falls_by = 0.4
while_rising = "reward"
window = 5
"""
    for name, slope, fires in (("rising", 0.1, True), ("falling", -0.1, False)):
        with Recorder(tmp_path / name) as rec:
            for step in range(20):
                norms = np.ones(64)
                norms[: 3 * step] = 0
                rec.log_step(step, {"grad_norm": norms, "reward": np.full(64, slope * step)})
        monitor = Monitor(tmp_path / name, parse_policy(text, "test"))
        monitor.poll()
        assert bool(monitor.alerts) == fires


def solved_share(step: int, groups: int, solved: int, mixed: int) -> dict[str, Any]:
    """Groups of 8: some solved, some mixed, the others failed."""
    group = np.repeat(np.arange(groups), 8)
    success = np.where(group < solved, True, np.arange(8 * groups) % 2 == 0)
    success = np.where(group >= solved + mixed, False, success)
    mean = np.array([success[group == g].mean() for g in range(groups)])[group]
    advantage = success - mean
    rng = np.random.default_rng(step)
    return {
        "group_id": group,
        "reward": success.astype(float),
        "success": success,
        "advantage": advantage,
        "log_weight": 0.05 * rng.normal(size=8 * groups),
        "grad_norm": np.abs(advantage),
    }


@pytest.mark.parametrize(
    ("solved", "mixed", "critical"),
    [(16, 0, False), (15, 1, False), (0, 1, True), (8, 1, True), (0, 0, True), (0, 16, False)],
)
def test_a_solved_task_is_not_critical_and_a_dead_one_is(
    tmp_path: Path, solved: int, mixed: int, critical: bool
) -> None:
    with Recorder(tmp_path) as rec:
        for step in range(10):
            rec.log_step(step, solved_share(step, 16, solved, mixed))
    monitor = Monitor(tmp_path)
    monitor.poll()
    assert any(alert.severity == "critical" for alert in monitor.alerts) == critical
    if solved >= 15:
        assert monitor.rule_engine.states()["ess_collapse"] == "solved"


def test_half_written_steps_raise_no_critical_alert(tmp_path: Path) -> None:
    """Rank 1 dies; rank 0's halves are judged later, flagged, and only the gap is alerted on."""
    columns = solved_share(0, 16, 0, 16)
    with (
        Recorder(tmp_path, rank=0, world_size=2, attempt=0, nominal_batch=256) as zero,
        Recorder(tmp_path, rank=1, world_size=2, attempt=0, nominal_batch=256) as one,
    ):
        monitor = Monitor(tmp_path)
        for step in range(20):
            zero.log_step(step, columns)
            if step < 5:
                one.log_step(step, columns)
            monitor.poll()
    assert [(a.rule, a.severity, a.partial) for a in monitor.alerts] == [
        ("data_gap", "warning", True)
    ]
    partial = monitor.timeline.frame.filter(~monitor.timeline.frame["complete"])
    assert partial["step"].to_list() == list(range(5, 15))


@pytest.mark.parametrize("seed", range(4))
def test_a_resume_of_two_ranks_at_different_moments_shows_no_false_alert(
    tmp_path: Path, seed: int
) -> None:
    """Rank by rank, at random moments, an old attempt goes on while the new one has started.

    Ranks of one attempt are never more than a step apart: they train together.
    """
    rng = random.Random(seed)
    columns = solved_share(0, 16, 0, 16)
    start, end = 12, 24
    monitor: Monitor | None = None
    told: list[Alert] = []
    with ExitStack() as stack:

        def open_rank(rank: int, attempt: int) -> Recorder:
            begin = start if attempt else 0
            rec = Recorder(
                tmp_path, rank=rank, world_size=2, attempt=attempt, start_step=begin,
                nominal_batch=256,
            )  # fmt: skip
            return stack.enter_context(rec)

        old = {rank: open_rank(rank, 0) for rank in (0, 1)}
        new: dict[int, Recorder] = {}
        next_old, next_new = {0: 0, 1: 0}, {0: start, 1: start}
        monitor = Monitor(tmp_path)
        monitor.subscribe(told.append)
        while min(next_new.values()) < end:
            rank = rng.randrange(2)
            resumed = max(next_old.values()) > 15
            if resumed and rank not in new and rng.random() < 0.3:
                new[rank] = open_rank(rank, 1)
            elif rank in new and next_new[rank] <= next_new[1 - rank]:
                new[rank].log_step(next_new[rank], columns)
                next_new[rank] += 1
            elif rank not in new and next_old[rank] <= min(next_old[1 - rank], 20):
                old[rank].log_step(next_old[rank], columns)
                next_old[rank] += 1
            monitor.poll()
            assert not told
    fresh = Monitor(tmp_path)
    fresh.poll()
    assert not fresh.alerts
    assert fresh.timeline.frame.equals(monitor.timeline.frame)
    assert fresh.timeline.frame["step"].to_list() == list(range(end))
    assert fresh.timeline.frame["complete"].all()


def test_alerts_of_hidden_steps_are_superseded(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    healthy, sick = solved_share(0, 16, 0, 16), solved_share(0, 16, 0, 0)
    with Recorder(tmp_path) as rec:
        monitor = Monitor(tmp_path)
        monitor.subscribe(lambda alert: told.append((alert.rule, alert.state)))
        for step in range(20):
            rec.log_step(step, healthy if step < 10 else sick)
            monitor.poll()
    assert ("ess_collapse", "firing") in told
    with Recorder(tmp_path, start_step=8) as rec:
        monitor.poll()
        assert {alert.state for alert in monitor.alerts} == {"superseded"}
        for step in range(8, 20):
            rec.log_step(step, healthy)
            monitor.poll()
    assert ("ess_collapse", "superseded") in told
    assert {alert.state for alert in monitor.alerts} == {"superseded"}
    assert set(monitor.rule_engine.states().values()) <= {"inactive", "no data"}
    fresh = Monitor(tmp_path)
    fresh.poll()
    assert fresh.alerts == monitor.alerts


def test_an_alert_that_resolved_after_the_resume_point_fires_again(tmp_path: Path) -> None:
    healthy, sick = solved_share(0, 16, 0, 16), solved_share(0, 16, 0, 0)
    with Recorder(tmp_path) as rec:
        for step in range(20):
            rec.log_step(step, sick if 5 <= step < 15 else healthy)
    with Recorder(tmp_path, start_step=12) as rec:
        rec.log_step(12, sick)
    monitor = Monitor(tmp_path)
    monitor.poll()
    [alert] = [alert for alert in monitor.alerts if alert.rule == "ess_collapse"]
    assert (alert.state, alert.step, alert.resolved_step) == ("firing", 9, None)
