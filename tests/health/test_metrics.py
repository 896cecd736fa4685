"""The timeline against a slow, obvious oracle."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import build_timeline
from mmhealth.health.metrics import step_metrics


def timeline_row(path: Path, columns: dict[str, Any], **recorder: Any) -> dict[str, Any]:
    with Recorder(path, **recorder) as rec:
        rec.log_step(0, columns)
    timeline = build_timeline(open_run(path))
    row = timeline.frame.row(0, named=True)
    row["reasons"] = {name: timeline.reason(0, name) for name in row if row[name] is None}
    return row


def plain_ess(weights: list[float]) -> float:
    return sum(weights) ** 2 / sum(w * w for w in weights) / len(weights)


def test_against_the_definitions(tmp_path: Path, batch: Any) -> None:
    columns = batch(3, 64, mixed=0.5)
    row = timeline_row(tmp_path, columns, nominal_batch=128)
    weights = [math.exp(lw) for lw in columns["log_weight"]]
    signal = [w * abs(a) for w, a in zip(weights, columns["advantage"], strict=True)]
    assert row["ess_weight"] == pytest.approx(plain_ess(weights), rel=1e-12)
    assert row["ess_signal"] == pytest.approx(plain_ess(signal), rel=1e-12)
    assert row["ess_contribution"] == pytest.approx(
        plain_ess(list(columns["grad_norm"])), rel=1e-12
    )
    assert row["ess_signal_nominal"] == pytest.approx(row["ess_signal"] / 2, rel=1e-12)
    assert row["ess_signal_ceiling"] == pytest.approx(0.5)
    assert row["max_weight_share"] == pytest.approx(max(weights) / sum(weights), rel=1e-12)
    assert row["n"] == 64
    assert row["solved_group_share"] == 0
    assert row["failed_group_share"] == row["dead_group_share"] == 0.5
    assert row["reward"] == row["success_rate"] == 0.25
    assert row["entropy"] == pytest.approx(columns["entropy"].mean(), rel=1e-12)
    assert row["nonfinite"] == 0
    assert row["complete"]
    assert row["data_gap"] == 0
    assert row["weight_khat"] is not None


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_shifted_log_weights_give_the_same_ess(tmp_path: Path, batch: Any, shift: float) -> None:
    columns = batch(0)
    shifted = columns | {"log_weight": columns["log_weight"] + shift}
    plain = timeline_row(tmp_path / "a", columns)["ess_weight"]
    assert timeline_row(tmp_path / "b", shifted)["ess_weight"] == pytest.approx(plain, rel=1e-9)


def test_uniform_weights_and_one_survivor(tmp_path: Path) -> None:
    uniform = {"log_weight": [0.7] * 50, "grad_norm": [2.0] * 50}
    row = timeline_row(tmp_path / "uniform", uniform)
    assert row["ess_weight"] == row["ess_contribution"] == 1
    assert row["top5_share"] == pytest.approx(0.05)
    assert row["gini_grad_norm"] == pytest.approx(0, abs=1e-12)
    survivor = {"log_weight": [0.0] + [-math.inf] * 49, "grad_norm": [1.0] + [0.0] * 49}
    row = timeline_row(tmp_path / "survivor", survivor)
    assert row["ess_weight"] == row["ess_contribution"] == pytest.approx(1 / 50)
    assert row["max_weight_share"] == row["top5_share"] == 1
    assert row["nonfinite"] == 0


def test_on_policy_is_uninformative_not_healthy(tmp_path: Path) -> None:
    row = timeline_row(tmp_path, {"log_weight": [0.0] * 40, "advantage": [1.0, -1.0] * 20})
    assert row["ess_weight"] is None
    assert "on-policy" in row["reasons"]["ess_weight"]
    assert row["ess_signal"] == 1


def test_missing_columns_are_null_with_a_reason(tmp_path: Path) -> None:
    row = timeline_row(tmp_path, {"reward": [0.5, 1.5]})
    for metric in ("ess_weight", "ess_contribution", "gini_grad_norm", "entropy", "kl_ref"):
        assert row[metric] is None
        assert row["reasons"][metric]
    assert row["reasons"]["log_ratio_p95_tool"] == "token log-ratios are not logged"
    assert row["solved_group_share"] is None


def test_a_column_with_holes_is_missing_for_what_needs_all_rows(tmp_path: Path) -> None:
    row = timeline_row(tmp_path, {"grad_norm": [1.0, None, 2.0], "reward": [1.0, None, 2.0]})
    assert row["ess_contribution"] is None
    assert row["reasons"]["ess_contribution"] == "grad_norm is missing in 1 of 3 sampled rows"
    assert row["reward"] == 1.5
    assert row["reward_pending"] == pytest.approx(1 / 3)


def test_nonfinite_values_are_counted_and_never_become_a_number(tmp_path: Path) -> None:
    columns = {
        "log_weight": [0.1, math.nan, math.inf, -math.inf, 0.2],
        "grad_norm": [1.0, 1.0, math.nan, 1.0, 1.0],
        "reward": [1.0, math.inf, 0.0, 0.0, 0.0],
    }
    row = timeline_row(tmp_path, columns)
    assert row["nonfinite"] == 4
    assert all(not isinstance(v, float) or math.isfinite(v) for v in row.values())
    assert row["ess_contribution"] == 1


def test_replaced_rows_are_watched_and_injected_rows_are_not(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec, rec.step(0) as s:
        s.add({"reward": [1.0] * 4, "trajectory_id": range(4)})
        s.add({"reward": [0.0] * 4, "trajectory_id": range(4, 8)}, role="replaced")
        s.add({"reward": [9.0] * 4, "trajectory_id": range(8, 12)}, role="injected")
        s.update({"trajectory_id": range(4), "grad_norm": [1.0] * 4})
        s.update({"trajectory_id": range(4, 8), "grad_norm": [0.0] * 4}, role="replaced")
        s.update({"trajectory_id": range(8, 12), "grad_norm": [3.0] * 4}, role="injected")
    row = build_timeline(open_run(tmp_path)).frame.row(0, named=True)
    assert row["reward"] == 0.5
    assert row["ess_contribution"] == 0.5
    assert row["ess_contribution_update"] == pytest.approx(plain_ess([1.0] * 4 + [3.0] * 4))


def test_the_last_update_of_each_trajectory_counts_and_the_others_are_kept(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec, rec.step(0) as s:
        s.add({"reward": [1.0] * 4})
        s.update({"log_weight": [5.0, 0.0, 0.0, 0.0]}, update=0)
        s.update({"trajectory_id": [0, 1], "log_weight": [1.0, 2.0]}, update=1)
        s.update({"trajectory_id": [2, 3], "log_weight": [0.5, 0.0]}, update=2)
    timeline = build_timeline(open_run(tmp_path))
    last = [math.exp(x) for x in (1.0, 2.0, 0.5, 0.0)]
    assert timeline.frame["ess_weight"][0] == pytest.approx(plain_ess(last))
    updates = timeline.updates
    assert updates["update"].to_list() == [0, 1, 2]
    assert updates["n"].to_list() == [4, 2, 2]
    first = [math.exp(x) for x in (5.0, 0.0, 0.0, 0.0)]
    assert updates["ess_weight"][0] == pytest.approx(plain_ess(first))


def test_each_loss_ratio_is_judged_at_its_own_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = [rng.normal(0, 0.3, size) for size in (10, 20, 40)]
    columns = {
        "length": [len(t) for t in tokens],
        "log_weight": [t.sum() for t in tokens],
        "token_logsum_w": [math.log(np.exp(t).sum()) for t in tokens],
        "token_logsum_w2": [math.log(np.exp(2 * t).sum()) for t in tokens],
    }
    by_level = {
        level: timeline_row(tmp_path / level, columns, loss_ratio=level)
        for level in ("token", "sequence", "geometric", "none")
    }
    flat = [math.exp(x) for t in tokens for x in t]
    product = [math.exp(t.sum()) for t in tokens]
    mean = [math.exp(t.mean()) for t in tokens]
    assert by_level["token"]["ess_weight"] == pytest.approx(plain_ess(flat))
    assert by_level["token"]["ess_weight_other"] == pytest.approx(plain_ess(product))
    assert by_level["sequence"]["ess_weight"] == pytest.approx(plain_ess(product))
    assert by_level["sequence"]["ess_weight_other"] == pytest.approx(plain_ess(flat))
    assert by_level["geometric"]["ess_weight"] == pytest.approx(plain_ess(mean))
    assert by_level["none"]["ess_weight"] is None


def test_ranks_are_joined_before_any_ratio_is_taken(tmp_path: Path) -> None:
    weights = np.array([0.0, 0.0, 3.0, 3.0])
    for rank in range(2):
        with Recorder(tmp_path, rank=rank, world_size=2, attempt=0) as rec:
            rec.log_step(0, {"log_weight": weights[2 * rank : 2 * rank + 2]})
    row = build_timeline(open_run(tmp_path)).frame.row(0, named=True)
    assert row["ess_weight"] == pytest.approx(plain_ess(list(np.exp(weights))))


def test_ids_that_repeat_or_change_their_type_multiply_nothing(tmp_path: Path) -> None:
    columns = {"group_id": [0, 0, 1, 1], "success": [True, False, True, True]}
    for name, added, used in (
        ("repeated", [0, 0, 1, 1], [0, 0, 1, 1]),
        ("text and numbers", ["0", "1", "2", "3"], [0, 1, 2, 3]),
    ):
        with Recorder(tmp_path / name) as rec, rec.step(0) as s:
            s.add(columns | {"trajectory_id": added})
            s.update({"trajectory_id": used, "grad_norm": [1.0, 1.0, 2.0, 2.0]})
        row = build_timeline(open_run(tmp_path / name)).frame.row(0, named=True)
        assert row["ess_contribution"] == pytest.approx(plain_ess([1.0, 1.0, 2.0, 2.0]))
        assert row["ess_contribution_unsolved"] == 1


def test_a_row_without_a_role_was_used(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [1.0, 0.0], "grad_norm": [1.0, 1.0]})
    data = open_run(tmp_path).step_data(0)
    assert data is not None
    role = pl.Series("role", ["used", None])
    data = replace(
        data,
        trajectories=data.trajectories.with_columns(role),
        updates=data.updates.with_columns(role),
    )
    values = step_metrics(data, "sequence").values
    assert (values["n"], values["reward"], values["ess_contribution_update"]) == (2, 0.5, 1)


def test_a_reward_of_0_or_1_serves_as_success(tmp_path: Path) -> None:
    row = timeline_row(tmp_path / "binary", {"reward": [1.0, 0.0, None, 1.0]})
    assert row["success_rate"] == pytest.approx(2 / 3)
    row = timeline_row(tmp_path / "dense", {"reward": [1.0, 0.5]})
    assert row["reasons"]["success_rate"] == (
        "success is not logged, and the reward is not only 0 or 1"
    )


def test_the_update_is_measured_with_the_weight_the_loss_multiplied(tmp_path: Path) -> None:
    raw = np.array([0.0, 0.1, -0.2, 9.0])
    used = np.exp([0.0, 0.1, -0.2, 0.5])
    columns = {
        "advantage": np.array([1.0, -1.0, 2.0, 1.0]),
        "log_weight": raw,
        "weight_used": used,
        "role": ["used", "replaced", "used", "injected"],
    }
    row = timeline_row(tmp_path, columns, loss_ratio="sequence")
    trained = [0, 2, 3]
    signal = [used[i] * abs(columns["advantage"][i]) for i in trained]
    assert row["ess_signal_update"] == pytest.approx(plain_ess(signal), rel=1e-12)
    assert row["ess_weight_update"] == pytest.approx(plain_ess([used[i] for i in trained]))
    sampled = [math.exp(raw[i]) for i in (0, 1, 2)]
    assert row["ess_weight"] == pytest.approx(plain_ess(sampled), rel=1e-12)


def test_a_weight_that_was_only_rounded_changes_nothing(tmp_path: Path, batch: Any) -> None:
    columns = batch(3)
    rounded = np.exp(columns["log_weight"]).astype(np.float32)
    row = timeline_row(tmp_path, columns | {"weight_used": rounded})
    assert row["ess_signal_update"] == row["ess_signal"]
    assert row["ess_weight_update"] == row["ess_weight"]
