"""Gradient noise in the timeline: what norms tell together with cosines."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, estimators, open_run
from mmhealth.health import Timeline, build_timeline

NOISE = (
    "gradient_snr",
    "gradient_snr_low",
    "gradient_snr_high",
    "noise_scale",
    "noise_scale_low",
    "noise_scale_high",
    "gradient_diversity",
)


def measured(seed: int, rows: int = 16, mean: float = 0.6) -> dict[str, Any]:
    """Norms and cosines of gradients in eight dimensions."""
    return columns_of(mean + np.random.default_rng(seed).normal(size=(rows, 8)))


def columns_of(gradients: Any) -> dict[str, Any]:
    whole, norms = gradients.sum(axis=0), np.linalg.norm(gradients, axis=1)
    return {"grad_norm": norms, "grad_cosine": gradients @ whole / norms / np.linalg.norm(whole)}


def recorded(path: Path, columns: dict[str, Any]) -> Timeline:
    with Recorder(path, strict=True) as recorder:
        recorder.log_step(0, columns)
    return build_timeline(open_run(path))


def reason(timeline: Timeline, metric: str) -> str:
    assert timeline.frame[metric][0] is None
    return timeline.reason(0, metric) or ""


def test_a_step_has_the_noise_of_its_update(tmp_path: Path) -> None:
    columns = measured(0)
    timeline = recorded(tmp_path, columns)
    row = timeline.frame.row(0, named=True)
    noise = estimators.gradient_noise(columns["grad_norm"], columns["grad_cosine"])
    assert row["gradient_snr"] == noise.snr
    assert (row["gradient_snr_low"], row["gradient_snr_high"]) == noise.snr_interval(0.9)
    assert row["noise_scale"] == noise.noise_scale == pytest.approx(16 / noise.snr)
    assert (row["noise_scale_low"], row["noise_scale_high"]) == noise.noise_scale_interval(0.9)
    assert row["gradient_diversity"] == estimators.gradient_diversity(*columns.values())
    assert row["opposing_share"] == estimators.opposing_share(*columns.values())
    ((_, metrics),) = timeline.visible()
    assert metrics.rows_behind("gradient_snr") == 16


def test_without_cosines_they_are_insufficient_data(tmp_path: Path) -> None:
    timeline = recorded(tmp_path, {"grad_norm": [1.0, 2.0, 3.0]})
    for metric in (*NOISE, "opposing_share"):
        assert reason(timeline, metric) == "grad_cosine is not logged"
    assert timeline.frame["gini_grad_norm"][0] is not None


def test_a_row_without_gradient_needs_no_cosine_and_counts(tmp_path: Path) -> None:
    columns = measured(1)
    norms = np.append(columns["grad_norm"], [0.0, 0.0])
    cosines = [*columns["grad_cosine"], math.nan, None]
    timeline = recorded(tmp_path, {"grad_norm": norms, "grad_cosine": cosines})
    expected = estimators.gradient_noise(norms, np.append(columns["grad_cosine"], [0.0, 0.0]))
    assert timeline.frame["gradient_snr"][0] == expected.snr
    assert timeline.frame["nonfinite"][0] == 0


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("grad_cosine", None, "grad_cosine is missing in 1 of 16 update rows"),
        ("grad_norm", None, "grad_norm is missing in 1 of 16 update rows"),
        ("grad_cosine", math.nan, "1 of 16 rows are not finite"),
        ("grad_norm", math.inf, "1 of 16 rows are not finite"),
    ],
)
def test_an_update_with_a_hole_has_none(
    tmp_path: Path, column: str, value: float | None, why: str
) -> None:
    columns = {name: list(values) for name, values in measured(0).items()}
    columns[column][3] = value
    timeline = recorded(tmp_path, columns)
    for metric in (*NOISE, "opposing_share"):
        assert reason(timeline, metric) == why


def test_a_step_that_a_rank_never_commits_has_none(tmp_path: Path) -> None:
    columns = measured(0)
    for rank in range(2):
        with Recorder(tmp_path, rank=rank, world_size=2, attempt=0, strict=True) as recorder:
            for step in range(rank, 8):
                recorder.log_step(step, columns)
    timeline = build_timeline(open_run(tmp_path))
    assert timeline.frame["complete"].to_list() == [False] + [True] * 7
    for metric in NOISE:
        assert "rows of the step are missing" in reason(timeline, metric)
    assert timeline.frame["gradient_snr"].null_count() == 1
    assert timeline.frame["opposing_share"][0] is not None, "of the rows there are"


def test_ranks_make_one_update(tmp_path: Path) -> None:
    columns = measured(0)
    for rank in range(2):
        with Recorder(tmp_path, rank=rank, world_size=2, attempt=0, strict=True) as recorder:
            part = slice(8 * rank, 8 * rank + 8)
            recorder.log_step(0, {name: values[part] for name, values in columns.items()})
    expected = estimators.gradient_noise(*columns.values())
    assert build_timeline(open_run(tmp_path)).frame["gradient_snr"][0] == expected.snr


def test_the_update_has_injected_rows_and_no_replaced_ones(tmp_path: Path) -> None:
    columns = measured(0)
    with Recorder(tmp_path, strict=True) as recorder, recorder.step(0) as step:
        step.add({"trajectory_id": range(12)})
        step.add({"trajectory_id": range(12, 16)}, role="injected")
        step.add({"trajectory_id": range(16, 20)}, role="replaced")
        step.update({"trajectory_id": range(16), **columns})
        step.update({"trajectory_id": range(16, 20), "grad_norm": [0.0] * 4}, role="replaced")
    expected = estimators.gradient_noise(*columns.values())
    assert build_timeline(open_run(tmp_path)).frame["gradient_snr"][0] == expected.snr


def test_minibatches_are_pooled_and_earlier_epochs_left_out(tmp_path: Path) -> None:
    minibatches = [measured(seed, 8) for seed in range(4)]
    with Recorder(tmp_path, strict=True) as recorder, recorder.step(0) as step:
        step.add({"trajectory_id": range(16)})
        for update, columns in enumerate(minibatches):
            rows = range(8 * (update % 2), 8 * (update % 2) + 8)
            step.update({"trajectory_id": rows, **columns}, update=update)
    norms, cosines = (
        np.concatenate([part[name] for part in minibatches[2:]])
        for name in ("grad_norm", "grad_cosine")
    )
    expected = estimators.gradient_noise(norms, cosines, np.repeat([2, 3], 8))
    row = build_timeline(open_run(tmp_path)).frame.row(0, named=True)
    assert row["gradient_snr"] == expected.snr
    assert row["gradient_diversity"] == estimators.gradient_diversity(
        norms, cosines, np.repeat([2, 3], 8)
    )


def test_what_is_infinite_is_said_and_is_no_number(tmp_path: Path) -> None:
    alike = recorded(tmp_path / "alike", {"grad_norm": [2.0] * 8, "grad_cosine": [1.0] * 8})
    assert alike.frame["noise_scale"][0] == 0.0
    assert "do not differ" in reason(alike, "gradient_snr")
    assert "do not differ" in reason(alike, "gradient_snr_low")
    unresolved = recorded(tmp_path / "unresolved", measured(1, 64, mean=0.0))
    assert unresolved.frame["gradient_snr"][0] < 0
    assert "does not resolve" in reason(unresolved, "noise_scale")
    assert "does not resolve" in reason(unresolved, "noise_scale_high")
    assert unresolved.frame["noise_scale_low"][0] > 0


def test_live_and_afterwards_it_is_the_same(tmp_path: Path, noisy_batch: Any) -> None:
    with Recorder(tmp_path, strict=True) as recorder:
        live = Timeline(open_run(tmp_path))
        for step in range(6):
            recorder.log_step(step, noisy_batch(step))
            live.update()
        assert len(live.frame) == 6
        afterwards = build_timeline(open_run(tmp_path))
        assert live.frame.equals(afterwards.frame)
        assert live.sources.equals(afterwards.sources)
        assert live.frame["gradient_snr"].null_count() == 0
