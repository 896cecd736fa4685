"""What an ESS is a fraction of, and how many rows stand behind a metric."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import Monitor, Timeline, build_timeline
from mmhealth.health.metrics import step_metrics

FILTERED = {"reward": [0.0] * 64, "role": ["used"] * 4 + ["filtered"] * 60}


def step_of(path: Path, added: dict[str, Any], *updates: dict[str, Any], **rec: Any) -> Timeline:
    with Recorder(path, nominal_batch=64, **rec) as recorder, recorder.step(0) as step:
        step.add(added)
        for columns in updates:
            step.update(columns)
    return build_timeline(open_run(path))


def test_a_sampled_trajectory_without_an_update_contributes_nothing(tmp_path: Path) -> None:
    update = {"trajectory_id": range(4), "advantage": [1.0, -1.0] * 2, "grad_norm": [2.0] * 4}
    row = step_of(tmp_path, FILTERED, update).frame.row(0, named=True)
    for basis in ("signal", "contribution"):
        assert row[f"ess_{basis}"] == row[f"ess_{basis}_nominal"] == 4 / 64
        assert row[f"ess_{basis}_update"] == 1
    assert row["ess_signal_ceiling"] == 4 / 64


@pytest.mark.parametrize(("succeeded", "unsolved"), [(0.0, 4 / 64), (1.0, 1.0)])
def test_filtered_groups_count_as_unsolved_unless_they_are_solved(
    tmp_path: Path, succeeded: float, unsolved: float
) -> None:
    success = [1.0, 0.0, 1.0, 0.0] + [succeeded] * 60
    added = FILTERED | {"group_id": [i // 4 for i in range(64)], "success": success}
    update = {"trajectory_id": range(4), "advantage": [1.0, -1.0] * 2}
    row = step_of(tmp_path, added, update).frame.row(0, named=True)
    assert row["ess_signal"] == 4 / 64
    assert row["ess_signal_unsolved"] == unsolved


def test_weights_are_a_fraction_of_the_rows_that_have_one(tmp_path: Path) -> None:
    update = {"trajectory_id": range(4), "log_weight": [0.3] * 4}
    assert step_of(tmp_path, FILTERED, update).frame["ess_weight"][0] == 1


def test_rows_lost_on_disk_are_not_taken_for_trajectories_that_contribute_nothing(
    tmp_path: Path,
) -> None:
    for rank in range(2):
        with Recorder(tmp_path, rank=rank, world_size=2, attempt=0) as rec:
            rec.log_step(0, {"advantage": [1.0, -1.0], "reward": [1.0, 0.0]})
            rec.log_step(9, {"advantage": [1.0, -1.0], "reward": [1.0, 0.0]})
    next((tmp_path / "updates").glob("1-*")).unlink()
    timeline = build_timeline(open_run(tmp_path))
    assert timeline.frame["data_gap"].min() > 0
    assert timeline.frame["ess_signal"].to_list() == [1]


@pytest.mark.parametrize("column", ["advantage", "grad_norm", "log_weight"])
def test_a_few_rows_that_are_finite_do_not_speak_for_all(tmp_path: Path, column: str) -> None:
    basis = {"advantage": "signal", "grad_norm": "contribution", "log_weight": "weight"}[column]
    for lost, known in ((33, False), (32, True)):
        values = [0.5] * (64 - lost) + [math.nan] * lost
        timeline = step_of(tmp_path / str(lost), {"reward": [0.0] * 64}, {column: values})
        ess, reason = timeline.frame[f"ess_{basis}"][0], timeline.reason(0, f"ess_{basis}")
        assert ess == (1 if known else None)
        assert reason == (None if known else "33 of 64 rows are not finite")
        assert timeline.frame["nonfinite"][0] == lost
    if column == "grad_norm":
        timeline = build_timeline(open_run(tmp_path / "33"))
        assert timeline.frame["gini_grad_norm"][0] is None


def test_the_same_rows_logged_again_count_once_as_logged_last(tmp_path: Path) -> None:
    added = {"group_id": [0, 0, 1, 1], "success": [1, 0, 1, 0]}
    first, last = {"advantage": [9.0, 0.0, 0.0, 0.0]}, {"advantage": [1.0, -1.0, 1.0, -1.0]}
    with Recorder(tmp_path, nominal_batch=4) as rec, rec.step(0) as step:
        step.add(added)
        for columns in (first, first, last):
            step.update(columns)
    timeline = build_timeline(open_run(tmp_path))
    row = timeline.frame.row(0, named=True)
    assert row["ess_signal"] == row["ess_signal_nominal"] == row["ess_signal_update"] == 1
    assert timeline.updates.select("n", "ess_signal").rows() == [(4, 1.0)]


def test_rows_without_an_id_are_all_kept(tmp_path: Path) -> None:
    with Recorder(tmp_path, nominal_batch=64) as rec:
        rec.log_step(0, {"advantage": [1.0, -1.0, 1.0, -1.0]})
    data = open_run(tmp_path).step_data(0)
    assert data is not None
    no_id = pl.lit(None, pl.Int64).alias("trajectory_id")
    data = replace(
        data,
        trajectories=data.trajectories.with_columns(no_id),
        updates=data.updates.with_columns(no_id),
    )
    values = step_metrics(data, "sequence").values
    assert values["ess_signal"] == 1
    assert values["ess_signal_nominal"] == 4 / 64


def test_min_rows_and_alerts_count_the_rows_behind_the_metric(tmp_path: Path) -> None:
    norms = {"trajectory_id": range(10), "grad_norm": [1.0] + [0.0] * 9}
    with Recorder(tmp_path) as rec:
        for number in range(8):
            with rec.step(number) as step:
                step.add({"reward": [0.0] * 512})
                step.update(norms | {"log_weight": [9.0] + [0.0] * 9})
    monitor = Monitor(tmp_path)
    monitor.poll()
    rows = {alert.rule: alert.rows for alert in monitor.alerts}
    assert rows["ess_contribution"] == 512
    assert "over 512 rows" in monitor.alerts[0].message
    assert monitor.rule_engine.states()["ess_weight"] == "no data"
    assert monitor.rule_engine.states()["gini"] == "no data"


def test_rows_that_are_not_finite_stand_behind_nothing(tmp_path: Path) -> None:
    norms = np.r_[1.0, np.zeros(39), np.full(24, np.nan)]
    with Recorder(tmp_path) as rec:
        for number in range(4):
            rec.log_step(number, {"grad_norm": norms})
    monitor = Monitor(tmp_path)
    monitor.poll()
    assert {a.rows for a in monitor.alerts if a.metric == "ess_contribution"} == {40}
    assert {a.rows for a in monitor.alerts if a.metric == "nonfinite"} == {64}
