"""A solved task has a low ESS too, and is no emergency."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor, judge_run


def outcomes(success: Any, group: int | None) -> dict[str, Any]:
    """Columns with advantages against the mean of the group, or of the batch."""
    success = np.asarray(success, bool)
    width = group or success.size
    reward = success.reshape(-1, width).astype(float)
    columns = {
        "success": success,
        "reward": success.astype(float),
        "advantage": (reward - reward.mean(1, keepdims=True)).ravel(),
    }
    ids = {} if group is None else {"group_id": np.arange(success.size) // group}
    return columns | ids


def judged(path: Path, batches: list[dict[str, Any]]) -> Monitor:
    with Recorder(path, strict=True) as rec:
        for step, columns in enumerate(batches):
            rec.log_step(step, columns)
    monitor = Monitor(path)
    monitor.poll()
    return monitor


@pytest.mark.parametrize("group", [8, 32, 64, None])
def test_ninety_eight_percent_success_is_solved(tmp_path: Path, group: int | None) -> None:
    rng = np.random.default_rng(0)
    batches = [outcomes(rng.random(512) < 0.98, group) for _ in range(8)]
    monitor = judged(tmp_path, batches)
    assert monitor.timeline.frame["ess_signal"].max() < 0.2
    assert all(alert.severity != "critical" for alert in monitor.alerts)
    assert monitor.rule_engine.states()["ess_collapse"] == "solved"


def test_four_failures_of_512_without_groups_are_solved(tmp_path: Path) -> None:
    columns = outcomes(np.arange(512) >= 4, None)
    assert judge_run(judged(tmp_path / "a", [columns] * 5)).name == "warning"
    del columns["success"]
    assert judge_run(judged(tmp_path / "b", [columns] * 5)).name == "warning"


@pytest.mark.parametrize("group", [8, 32, 64, None])
def test_two_percent_success_is_not(tmp_path: Path, group: int | None) -> None:
    rng = np.random.default_rng(0)
    batches = [outcomes(rng.random(512) < 0.02, group) for _ in range(8)]
    assert judge_run(judged(tmp_path, batches)).name == "critical"


def test_nine_in_ten_is_the_line(tmp_path: Path) -> None:
    one_hot = [1.0] + [0.0] * 99
    for solved, name in ((90, "warning"), (89, "critical")):
        columns = {"success": np.arange(100) < solved, "advantage": one_hot}
        assert judge_run(judged(tmp_path / name, [columns] * 5)).name == name
