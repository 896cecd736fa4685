"""Metrics by choice: each alone is what it is among all, from the columns that it says it needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import build_timeline
from mmhealth.health.needs import ALL, NEEDS, columns_of
from mmhealth.health.timeline import METRICS


def rich_batch(step: int, rows: int, batch: Any) -> dict[str, Any]:
    """Every column that some metric needs, with gaps and values that are not finite in some."""
    rng = np.random.default_rng(step)
    columns = batch(step, rows, mixed=0.6)
    role = np.array(["used"] * rows, dtype=object)
    role[: step % 3] = "replaced"
    more = {
        "role": role,
        "kl_ref": rng.random(rows),
        "weight_used": np.minimum(np.exp(columns["log_weight"]), 1.02),
        "token_logsum_w": np.log(10.0) + 0.01 * rng.random(rows),
        "token_logsum_w2": np.log(10.0) + 0.02 * rng.random(rows),
        "grad_cosine": rng.uniform(-0.2, 0.5, rows),
        "strategic_entropy": rng.random(rows) / 3,
        "violated": rng.random(rows) < 0.1,
        "constraint_margin": rng.normal(size=rows),
        "serial": rng.random(rows) < 0.2,
        "refused": rng.random(rows) < 0.2,
        "something_else": rng.random(rows),
    }
    columns |= more
    if step == 2:
        columns["grad_norm"] = np.where(np.arange(rows) == 5, np.nan, columns["grad_norm"])
    if step == 3:
        del columns["log_weight"]
    return columns


@pytest.fixture(scope="module", params=["sequence", "geometric", "token", "none"])
def run(request: Any, tmp_path_factory: pytest.TempPathFactory, batch: Any) -> Path:
    path = tmp_path_factory.mktemp("rich") / request.param
    with Recorder(path, nominal_batch=64, loss_ratio=request.param, strict=True) as recorder:
        for step in range(5):
            recorder.log_step(step, rich_batch(step, 64, batch))
    return path


def test_every_metric_says_what_it_needs() -> None:
    assert set(NEEDS) == {*METRICS, "nonfinite"}


def test_each_metric_alone_is_what_it_is_among_all(run: Path) -> None:
    whole = build_timeline(open_run(run))
    for metric in sorted(ALL):
        alone = build_timeline(open_run(run), [metric])
        assert metric in alone.frame.columns
        assert alone.frame.equals(whole.frame.select(alone.frame.columns)), metric
        for step in range(5):
            assert alone.reason(step, metric) == whole.reason(step, metric)


def test_only_what_is_needed_is_read(run: Path) -> None:
    [data] = [
        d for d in open_run(run).tail().read(columns_of(["entropy"], "sequence")) if not d.step
    ]
    assert set(data.trajectories.columns) >= {"entropy", "token_count", "trajectory_id"}
    assert not {"reward", "group_id", "something_else"} & set(data.trajectories.columns)
    assert not {"log_weight", "grad_norm", "advantage"} & set(data.updates.columns)


def test_a_metric_that_there_is_not_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="no such metric: es"):
        build_timeline(open_run(run), ["es", "ess_weight"])
