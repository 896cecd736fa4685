"""Choices that are settled too early, and policies that flee from a constraint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor

GROUPS, SIZE = 8, 8


def columns(*, failed: int, entropy: float = 0.05, **more: Any) -> dict[str, Any]:
    """The first groups fail in all trajectories, the others succeed in every second one."""
    group = np.repeat(np.arange(GROUPS), SIZE)
    success = (np.arange(GROUPS * SIZE) % 2 == 0) & (group >= failed)
    plain = {
        "group_id": group,
        "success": success,
        "reward": success.astype(float),
        "strategic_entropy": np.full(GROUPS * SIZE, entropy),
    }
    return plain | more


def monitored(path: Path, batch: dict[str, Any], steps: int = 10) -> Monitor:
    with Recorder(path, strict=True) as recorder:
        for step in range(steps):
            recorder.log_step(step, batch)
    monitor = Monitor(path)
    monitor.poll()
    return monitor


def rules(monitor: Monitor) -> set[str]:
    return {alert.rule for alert in monitor.alerts}


@pytest.mark.parametrize(
    ("failed", "entropy", "fires"),
    [(6, 0.05, True), (6, 0.5, False), (3, 0.05, False), (0, 0.0, False)],
)
def test_stuck_is_settled_where_everything_fails(tmp_path, failed, entropy, fires):
    monitor = monitored(tmp_path, columns(failed=failed, entropy=entropy))
    expected = failed / GROUPS if entropy < 0.2 else 0.0
    assert monitor.timeline.frame["stuck_share"].to_list() == [expected] * 10
    assert ("stuck_choices" in rules(monitor)) == fires


@pytest.mark.parametrize("missing", ["group_id", "strategic_entropy", "success"])
def test_stuck_is_unknown_without_its_columns(tmp_path, missing):
    batch = columns(failed=6)
    del batch[missing]
    if missing == "success":
        batch["reward"] = batch["reward"] * 0.95
    monitor = monitored(tmp_path, batch)
    assert monitor.timeline.frame["stuck_share"].null_count() == 10
    assert monitor.timeline.reason(0, "stuck_share")
    assert "stuck_choices" not in rules(monitor)


def settling(path: Path, *, failed: int, drop: str | None = None) -> Monitor:
    """Twelve steps at full entropy, then choices settle while so many of 8 groups fail."""
    with Recorder(path, strict=True) as recorder:
        for step in range(24):
            batch = columns(failed=failed, entropy=1.6 if step < 12 else 0.25)
            batch.pop(drop or "", None)
            recorder.log_step(step, batch)
    monitor = Monitor(path)
    monitor.poll()
    return monitor


@pytest.mark.parametrize(("failed", "fires"), [(5, True), (4, False)])
def test_choices_that_settle_matter_where_most_groups_fail(tmp_path, failed, fires):
    found = [
        a for a in settling(tmp_path, failed=failed).alerts if a.rule == "settled_while_failing"
    ]
    assert [(alert.step, alert.severity) for alert in found] == [(16, "critical")] * fires


def test_without_groups_nobody_knows_whether_most_fail(tmp_path):
    monitor = settling(tmp_path, failed=8, drop="group_id")
    assert "settled_while_failing" in monitor.rule_engine.never_judged()


def test_an_alert_ends_when_something_succeeds(tmp_path):
    with Recorder(tmp_path, strict=True) as recorder:
        for step in range(40):
            entropy = 1.6 if step < 12 else 0.25
            recorder.log_step(step, columns(failed=8 if step < 25 else 2, entropy=entropy))
    monitor = Monitor(tmp_path)
    monitor.poll()
    [alert] = [a for a in monitor.alerts if a.rule == "settled_while_failing"]
    assert (alert.step, alert.resolved_step) == (16, 29)


def flags(share: float) -> np.ndarray[Any, Any]:
    return np.arange(GROUPS * SIZE) < share * GROUPS * SIZE


@pytest.mark.parametrize(("share", "fires"), [(0.8, True), (0.65, False)])
def test_a_policy_that_works_serially_under_a_constraint_has_retreated(tmp_path, share, fires):
    batch = columns(failed=0, serial=flags(share), violated=flags(0.0))
    monitor = monitored(tmp_path, batch)
    assert monitor.timeline.frame["violated_share"].to_list() == [0.0] * 10
    assert ("retreat" in rules(monitor)) == fires


def test_serial_and_refused_trajectories_count_once(tmp_path):
    batch = columns(failed=0, serial=flags(0.5), refused=flags(0.5), violated=flags(0.0))
    monitor = monitored(tmp_path, batch)
    assert monitor.timeline.frame["retreat_share"].to_list() == [0.5] * 10


def test_an_agent_that_has_no_constraint_flees_from_none(tmp_path):
    monitor = monitored(tmp_path, columns(failed=0, serial=flags(1.0)))
    assert monitor.timeline.frame["retreat_share"].null_count() == 10
    assert "no constraint" in monitor.timeline.reason(0, "retreat_share")
    assert "retreat" not in rules(monitor)


def test_a_solved_task_may_be_worked_serially(tmp_path):
    batch = columns(failed=0, serial=flags(1.0), violated=flags(0.0))
    batch["success"] = np.ones(GROUPS * SIZE, bool)
    assert "retreat" not in rules(monitored(tmp_path, batch))
