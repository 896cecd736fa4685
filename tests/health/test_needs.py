"""Metrics by choice: each alone is what it is among all, from the columns that it says it needs."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import build_timeline
from mmhealth.health.metrics import step_metrics
from mmhealth.health.needs import ALL, NEEDS, columns_of
from mmhealth.health.timeline import METRICS, Timeline
from mmhealth.runlog import StepData
from mmhealth.schema import TRAJECTORIES

ROWS = 32
LEFT_OUT: dict[int, tuple[str, ...]] = {
    2: ("log_weight",),
    3: ("success",),
    4: ("success",),
    5: ("token_count", "violated"),
    6: ("token_count", "length", "constraint_margin"),
    7: ("group_id",),
    9: ("violated", "constraint_margin"),
    10: ("serial", "refused", "weight_used", "token_logsum_w"),
    11: ("grad_cosine", "strategic_entropy"),
}
"""Columns that are not logged in a step."""
NOT_FINITE = {"reward": 3, "entropy": 4, "kl_ref": 5, "advantage": 6, "log_weight": 7}
"""At step 8 these have a value that is not finite in this row."""


def rich_batch(step: int, rank: int, batch: Any) -> dict[str, Any]:
    """Every column that some metric needs, but for those that are left out."""
    rng = np.random.default_rng(100 * step + rank)
    columns = batch(step, ROWS, mixed=0.6)
    groups = columns["group_id"] == rank
    success = np.where(groups, True, columns["success"])
    role = np.array(["used"] * ROWS, dtype=object)
    role[: step % 3] = "replaced"
    role[-1] = "filtered"
    columns |= {
        "success": success,
        "reward": rng.random(ROWS) if step == 4 else success.astype(float),
        "role": role,
        "length": rng.integers(8, 30, ROWS),
        "token_count": rng.integers(8, 30, ROWS),
        "kl_ref": rng.random(ROWS),
        "weight_used": np.minimum(np.exp(columns["log_weight"]), 1.02),
        "token_logsum_w": np.log(10.0) + 0.01 * rng.random(ROWS),
        "token_logsum_w2": np.log(10.0) + 0.02 * rng.random(ROWS),
        "grad_norm": 0.1 + columns["grad_norm"],
        "grad_cosine": rng.uniform(-0.2, 0.5, ROWS),
        "strategic_entropy": rng.random(ROWS) / 3,
        "violated": rng.random(ROWS) < 0.1,
        "constraint_margin": rng.normal(size=ROWS),
        "serial": rng.random(ROWS) < 0.2,
        "refused": rng.random(ROWS) < 0.2,
        "something_else": rng.random(ROWS),
    }
    if step == 8:
        for name, row in NOT_FINITE.items():
            columns[name] = np.where(np.arange(ROWS) == row, np.inf, columns[name])
        columns["grad_norm"] = np.where(np.arange(ROWS) == 9, np.nan, columns["grad_norm"])
        columns["weight_used"] = np.where(np.arange(ROWS) == 9, np.nan, columns["weight_used"])
    return {name: values for name, values in columns.items() if name not in LEFT_OUT.get(step, ())}


def record_rank(recorder: Recorder, rank: int, batch: Any) -> None:
    """Twelve steps, some with two updates or rows of a reserve; then some of another kind."""
    for step in range(12):
        columns = rich_batch(step, rank, batch)
        ids = [f"t{row}" for row in range(ROWS)] if step == 1 else list(range(ROWS))
        sampled = {name: columns[name] for name in columns if TRAJECTORIES.kind(name) is not None}
        use = {name: columns[name] for name in columns if name not in sampled} | {
            "role": columns["role"],
            "trajectory_id": ids,
        }
        with recorder.step(step) as record:
            record.add(sampled | {"trajectory_id": ids})
            record.update({name: values[:24] for name, values in use.items()}, update=0)
            if step % 2:
                record.update({name: values[12:] for name, values in use.items()}, update=1)
            if step in (3, 10):
                reserve = {name: values[:4] for name, values in use.items() if name != "role"}
                record.update(
                    reserve | {"trajectory_id": range(900, 904)}, update=0, role="injected"
                )
            ratios = np.random.default_rng(step).normal(size=500)
            record.log_ratios(0.1 * ratios, after_tool=ratios < 0)
            record.scalars({"kl_coef": 0.1 * (step == 7), "reward": 0.5})
    for step in (12, 13, 14):
        with recorder.step(step) as record:
            if step == 12:
                record.scalars({"reward": 0.4, "entropy": 1.0, "kl_ref": 0.1, "loss": np.nan})
            if step == 13 and rank == 0:
                record.add({"reward": [1.0, 0.0, 1.0]})


@pytest.fixture(scope="module", params=["sequence", "geometric", "token", "none"])
def run(request: Any, tmp_path_factory: pytest.TempPathFactory, batch: Any) -> Path:
    """Two ranks; rewards and outcomes that came late, and a second attempt that hides a step."""
    path = tmp_path_factory.mktemp("rich") / request.param
    about: Any = {"world_size": 2, "nominal_batch": 64, "loss_ratio": request.param, "strict": True}
    for rank in range(2):
        with Recorder(path, rank=rank, attempt=0, **about) as recorder:
            record_rank(recorder, rank, batch)
            for row in range(8):
                recorder.amend(4, row, "success", row % 2, arrived_step=6)
            recorder.amend(0, 3, "reward", 7.0, arrived_step=6)
    for rank in range(2):
        with Recorder(path, rank=rank, attempt=1, start_step=14, **about) as recorder:
            recorder.log_step(14, {"advantage": [1.0, -1.0, 0.5]})
    return path


def test_every_metric_says_what_it_needs() -> None:
    assert set(NEEDS) == {*METRICS, "nonfinite"}


def assert_same(chosen: Timeline, whole: Timeline, metrics: Collection[str]) -> None:
    assert set(metrics) <= set(chosen.frame.columns)
    assert chosen.frame.equals(whole.frame.select(chosen.frame.columns)), metrics
    assert chosen.lived.keys() == whole.lived.keys()
    for key, found in chosen.lived.items():
        for name in metrics:
            assert found.reasons.get(name) == whole.lived[key].reasons.get(name), (name, key)
            assert found.rows_behind(name) == whole.lived[key].rows_behind(name), (name, key)


def test_each_metric_alone_is_what_it_is_among_all(run: Path) -> None:
    whole = build_timeline(open_run(run))
    assert whole.frame["step"].to_list() == list(range(15))
    weighs = {name for name in ALL if name.startswith("ess_") or "log_weight" in NEEDS[name]}
    for metric in sorted(ALL if run.name == "sequence" else weighs):
        assert_same(build_timeline(open_run(run), [metric]), whole, [metric])


def test_some_together_are_what_they_are_among_all(run: Path) -> None:
    whole = build_timeline(open_run(run))
    rng = np.random.default_rng(0)
    for _ in range(3):
        some = rng.choice(sorted(ALL), rng.integers(2, 7), replace=False).tolist()
        assert_same(build_timeline(open_run(run), some), whole, some)


def test_a_column_that_was_forgotten_would_be_noticed(
    tmp_path_factory: pytest.TempPathFactory, batch: Any
) -> None:
    """That the runs above are rich enough: each column that a metric needs tells in some step."""
    unseen = {(metric, column) for metric in NEEDS for column in NEEDS[metric]}
    for ratio in ("sequence", "token"):
        path = tmp_path_factory.mktemp("rich") / ratio
        with Recorder(path, nominal_batch=64, loss_ratio=ratio, strict=True) as recorder:
            record_rank(recorder, 0, batch)
        for data in open_run(path).tail().read():
            for metric, column in sorted(unseen):
                if said(data, ratio, metric) != said(without(data, column), ratio, metric):
                    unseen.remove((metric, column))
    assert not unseen


def without(data: StepData, column: str) -> StepData:
    return replace(
        data,
        trajectories=data.trajectories.drop(column, strict=False),
        updates=data.updates.drop(column, strict=False),
    )


def said(data: StepData, loss_ratio: str, metric: str) -> str:
    found = step_metrics(data, loss_ratio, wanted=[metric])
    return f"{found.values[metric]} {found.reasons.get(metric)}"


def test_intervals_may_be_demanded_of_a_metric_that_is_not_chosen(run: Path) -> None:
    demanded = [("gini_grad_norm", 0.9), ("ess_signal_unsolved", 0.9)]
    whole, chosen = (
        Timeline(open_run(run), demanded, metrics) for metrics in (None, ["reward", "ess_weight"])
    )
    whole.update()
    chosen.update()
    assert_same(chosen, whole, ["reward", "ess_weight"])
    assert {key: found.intervals for key, found in chosen.lived.items()} == {
        key: found.intervals for key, found in whole.lived.items()
    }


def test_a_length_or_flag_that_one_step_lacks_is_not_missed_where_another_tells(run: Path) -> None:
    timeline = build_timeline(open_run(run))
    assert timeline.reason(5, "ess_weight") != "token_count is not logged"
    assert timeline.reason(6, "ess_contribution_update") is None
    assert timeline.reason(9, "retreat_share") == (
        "no constraint is logged: violated or constraint_margin"
    )


def test_only_what_is_needed_is_read(run: Path) -> None:
    needed = columns_of(["entropy"], "sequence")
    [data] = [data for data in open_run(run).tail().read(needed) if data.step == 2]
    assert set(data.trajectories.columns) >= {"entropy", "token_count", "trajectory_id"}
    assert not {"reward", "group_id", "something_else"} & set(data.trajectories.columns)
    assert not {"log_weight", "grad_norm", "advantage"} & set(data.updates.columns)


def test_a_metric_that_there_is_not_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="no such metric: es"):
        build_timeline(open_run(run), ["es", "ess_weight"])
