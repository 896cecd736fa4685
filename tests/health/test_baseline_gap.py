"""How far the baseline of least variance is from the mean reward of a group."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import Timeline, build_timeline
from mmhealth.interventions import minimum_variance_baseline


def grpo(score: Any, reward: Any, group: Any) -> dict[str, Any]:
    """Columns of terms -A log pi with scores of these norms."""
    score, reward, group = np.asarray(score), np.asarray(reward), np.asarray(group)
    advantage = reward - (np.bincount(group, reward) / np.bincount(group))[group]
    return {
        "reward": reward,
        "group_id": group,
        "advantage": advantage,
        "grad_norm": np.abs(advantage) * score,
    }


def recorded(path: Path, columns: dict[str, Any], scalars: Any = None) -> Timeline:
    with Recorder(path, strict=True, loss_ratio="none") as recorder:
        recorder.log_step(0, columns, scalars)
    return build_timeline(open_run(path))


def test_it_is_the_distance_from_the_baseline_that_the_intervention_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    score, reward, group = rng.lognormal(0, 1, 24), rng.normal(size=24), np.repeat([0, 1, 2], 8)
    timeline = recorded(tmp_path, grpo(score, reward, group))
    best = minimum_variance_baseline(reward, score, group)[::8]
    expected = np.abs(best - reward.reshape(3, 8).mean(axis=1)).mean()
    assert timeline.frame["baseline_gap"][0] == pytest.approx(expected, rel=1e-9)


def test_equal_scores_need_no_other_baseline(tmp_path: Path) -> None:
    columns = grpo(np.ones(8), [1.0, 0.0, 0.0, 0.0] * 2, np.repeat([0, 1], 4))
    assert recorded(tmp_path, columns).frame["baseline_gap"][0] == pytest.approx(0, abs=1e-12)


def test_groups_without_contrast_or_with_hidden_scores_are_left_out(tmp_path: Path) -> None:
    known = grpo([1.0, 3.0], [1.0, 0.0], [0, 0])
    gap = recorded(tmp_path / "known", known).frame["baseline_gap"][0]
    assert gap == pytest.approx(0.4)
    more = grpo(
        [1.0, 3.0, 1.0, 2.0, 1.0, 2.0, 3.0],
        [1.0, 0.0, 1.0, 1.0, 0.0, 0.5, 1.0],
        [0, 0, 1, 1, 2, 2, 2],
    )
    timeline = recorded(tmp_path / "more", more)
    assert timeline.frame["baseline_gap"][0] == pytest.approx(gap)
    ((_, metrics),) = timeline.visible()
    assert metrics.rows_behind("baseline_gap") == 2


@pytest.mark.parametrize(
    ("change", "scalars", "why"),
    [
        ({}, {"kl_coef": 0.1}, "KL"),
        ({"grad_norm": [1.0, math.nan]}, None, "not finite"),
        ({"reward": [1.0, None]}, None, "reward is missing in 1 of 2"),
        ({"advantage": [0.0, 0.0]}, None, "no group"),
        ({"reward": [1.0, 1.0]}, None, "no group"),
        ({"role": ["used", "injected"]}, None, "injected"),
    ],
)
def test_where_scores_are_not_known_it_is_insufficient_data(
    tmp_path: Path, change: dict[str, Any], scalars: Any, why: str
) -> None:
    timeline = recorded(tmp_path, grpo([1.0, 3.0], [1.0, 0.0], [0, 0]) | change, scalars)
    assert timeline.frame["baseline_gap"][0] is None
    assert why in str(timeline.reason(0, "baseline_gap"))


@pytest.mark.parametrize("column", ["reward", "group_id", "advantage", "grad_norm"])
def test_a_column_that_is_not_logged_is_named(tmp_path: Path, column: str) -> None:
    columns = grpo([1.0, 3.0], [1.0, 0.0], [0, 0])
    del columns[column]
    timeline = recorded(tmp_path, columns)
    assert timeline.reason(0, "baseline_gap") == f"{column} is not logged"
