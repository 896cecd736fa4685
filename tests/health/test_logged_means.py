"""Means that a trainer logged stand in where a step has no trajectories, and nowhere else."""

import math
from pathlib import Path

import pytest

from mmhealth import Recorder, open_run
from mmhealth.health.timeline import Timeline, build_timeline


def timeline_of(folder: Path, **scalars: float) -> Timeline:
    """One step of nothing but scalars, and one that has trajectories, too."""
    with Recorder(folder, strict=True) as recorder:
        recorder.log_step(0, {}, scalars)
        recorder.log_step(1, {"reward": [0.0, 1.0], "entropy": [1.0, 3.0]}, scalars)
    return build_timeline(open_run(folder))


def test_scalars_are_the_metrics_of_a_step_without_trajectories(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path / "run", reward=0.25, entropy=1.5, kl_ref=0.125, loss=9.0)
    frame = timeline.frame
    assert frame["n"].to_list() == [0, 2]
    assert frame["reward"].to_list() == [0.25, 0.5]
    assert frame["entropy"].to_list() == [1.5, 2.0]
    assert frame["kl_ref"].to_list() == [0.125, None]
    assert frame["nonfinite"].to_list() == [0, 0]
    for metric in ("success_rate", "ess_signal", "dead_group_share"):
        assert timeline.reason(0, metric) == "no sampled rows"
    first = timeline.visible()[0][1]
    assert [first.rows_behind(name) for name in ("reward", "entropy", "nonfinite")] == [1, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted_and_no_metric(tmp_path: Path, bad: float) -> None:
    timeline = timeline_of(tmp_path / "run", reward=bad, loss=bad, other=bad)
    assert timeline.frame["nonfinite"].to_list() == [2, 0]
    assert timeline.frame["reward"].to_list() == [None, 0.5]
    assert timeline.reason(0, "reward") == "reward has no finite value"


def test_without_scalars_nothing_is_known(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path / "run")
    assert timeline.frame["entropy"].to_list() == [None, 2.0]
    assert timeline.reason(0, "entropy") == "no sampled rows"
    assert timeline.visible()[0][1].rows_behind("nonfinite") == 0
