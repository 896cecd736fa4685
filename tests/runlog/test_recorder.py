import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from mmhealth import Recorder, new_attempt, open_run
from mmhealth.errors import RecordError
from mmhealth.estimators import histogram_percentile


def losses(path: Path) -> dict[str, int]:
    return {loss.kind: loss.count for loss in open_run(path).status().losses}


def test_log_step_splits_the_columns_over_the_tables(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", config={"lr": 0.1}, nominal_batch=64) as rec:
        for step in range(3):
            rec.log_step(step, batch(step) | {"mine": 1.5}, {"loss": 0.5 * step})
    run = open_run(tmp_path / "run")
    assert run.config == {"lr": 0.1}
    assert run.trajectories.shape[0] == run.updates.shape[0] == 3 * 64
    assert {"reward", "mine", "group_id", "role"} <= set(run.trajectories.columns)
    assert {"advantage", "log_weight", "grad_norm", "update"} <= set(run.updates.columns)
    assert run.steps["loss"].to_list() == [0.0, 0.5, 1.0]
    assert run.steps["nominal_batch"].to_list() == [64] * 3
    sent = np.concatenate([batch(step)["log_weight"] for step in range(3)])
    assert run.updates["log_weight"].to_list() == sent.tolist()
    status = run.status()
    assert (status.steps_complete, status.rows_read, status.rows_present) == (3, 192, 192)
    assert not status.data_lost


def test_updates_roles_and_injected_rows(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec, rec.step(7) as s:
        s.add({"reward": [0.0, 1.0], "trajectory_id": [10, 11]})
        s.add({"reward": [0.5], "trajectory_id": [12]}, role="replaced")
        s.add({"reward": [1.0], "trajectory_id": [99], "near_miss": True}, role="injected")
        for update in range(2):
            s.update(
                {"trajectory_id": [10, 11], "log_weight": torch.full((2,), 0.1 * update)},
                update=update,
            )
        s.update({"trajectory_id": [99], "log_weight": [0.3]}, update=1, role="injected")
        s.scalars({"kl_coef": 0.5})
    run = open_run(tmp_path / "run")
    assert run.trajectories["role"].to_list() == ["used", "used", "replaced", "injected"]
    assert run.updates.select("update", "trajectory_id", "role").rows() == [
        (0, 10, "used"),
        (0, 11, "used"),
        (1, 10, "used"),
        (1, 11, "used"),
        (1, 99, "injected"),
    ]
    row = run.steps.row(0, named=True)
    assert (row["sampled"], row["used"], row["kl_coef"]) == (3, 3, 0.5)


def test_a_step_left_by_an_exception_is_not_committed(tmp_path: Path) -> None:
    def crash(rec: Recorder) -> None:
        with rec.step(0) as s:
            s.add({"reward": [1.0]})
            raise KeyError

    with Recorder(tmp_path / "run") as rec:
        with pytest.raises(KeyError):
            crash(rec)
        rec.log_step(1, {"reward": [2.0]})
    assert open_run(tmp_path / "run").trajectories["step"].to_list() == [1]


def test_second_commit_is_refused_and_counted(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": [1.0]})
        rec.log_step(0, {"reward": [2.0]})
        rec.log_step(0, {"reward": [3.0]})
    assert open_run(tmp_path / "run").trajectories["reward"].to_list() == [1.0]
    assert losses(tmp_path / "run") == {"duplicate_commit": 2}


def test_token_log_ratios_become_histograms(tmp_path: Path) -> None:
    ratios = torch.linspace(0.01, 1.0, 100).reshape(10, 10)
    tool = torch.zeros(10, 10, dtype=torch.bool)
    tool[5:] = True
    with Recorder(tmp_path / "run") as rec, rec.step(0) as s:
        s.add({"reward": [1.0]})
        s.log_ratios(ratios, after_tool=tool)
    histograms = open_run(tmp_path / "run").tail().steps[0].histograms
    assert histograms["log_ratio_histogram"].sum() == 100
    assert histograms["log_ratio_tool_histogram"].sum() == 50
    p50 = histogram_percentile(histograms["log_ratio_tool_histogram"], 50)
    assert p50 == pytest.approx(0.75, rel=0.1)


def test_evaluations_events_and_amendments(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": [None, 1.0]})
        rec.log_evaluation(
            0, episodes=100, successes=25, eval_horizon=6, train_horizons=[6, 10], level="hard"
        )
        rec.log_event(0, "intervention", {"kl": np.float64(0.5)})
        rec.amend(0, 0, "reward", 0.25, arrived_step=1)
        rec.amend(0, 0, "reward", 0.75, arrived_step=2)
        rec.log_step(1, {"reward": [3.0]})
    run = open_run(tmp_path / "run")
    assert run.trajectories["reward"].to_list() == [0.75, 1.0, 3.0]
    row = run.evaluations.row(0, named=True)
    assert (row["train_horizons"], row["successes"], row["level"]) == ([6, 10], 25, "hard")
    assert run.events["kind"].to_list() == ["intervention"]
    assert json.loads(run.events["details"][0]) == {"kl": 0.5}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"reward": ["text", "text"]}, "column"),
        ({"reward": [1.0, 2.0], "length": [1, 2, 3], "turns": [1, 2]}, "column"),
        ({"reward": [object(), object()]}, "column"),
        ({"reward": [1.0, 2.0], "role": ["used", "borrowed"]}, "step"),
        ({"reward": [1.0, 2.0], "log_weight": [0.0]}, "step"),
    ],
)
def test_bad_input_is_counted_warned_of_once_and_loses_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, columns: dict[str, Any], kind: str
) -> None:
    with caplog.at_level(logging.WARNING, "mmhealth"), Recorder(tmp_path / "run") as rec:
        for step in range(3):
            rec.log_step(step, columns | {"success": [True, False]})
        rec.log_step(3, {"success": [True]})
    assert losses(tmp_path / "run") == {kind: 3}
    assert len(caplog.records) == 1
    assert "Way out" in caplog.text
    run = open_run(tmp_path / "run")
    assert run.steps["step"].to_list() == [0, 1, 2, 3]
    assert run.status().data_lost


@pytest.mark.parametrize("step", ["seven", 1.5, None, [1]])
def test_a_step_that_is_no_number_does_not_raise(tmp_path: Path, step: Any) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(step, {"reward": [1.0]})
        rec.log_step(1, {"reward": [1.0]})
    assert open_run(tmp_path / "run").trajectories["step"].to_list() == [1]
    assert losses(tmp_path / "run") == {"step": 1}


def test_nonsense_of_every_kind_never_raises(tmp_path: Path) -> None:
    rec = Recorder(tmp_path / "run")
    nonsense: list[Any] = [None, 3, "x", [1], {"reward": {}}, {1: [2]}, {"reward": lambda: 0}]
    for step, columns in enumerate(nonsense):
        rec.log_step(step, columns, columns)
        rec.log_evaluation(step, episodes=columns, successes=columns)
        rec.log_event(step, columns, columns)
        rec.amend(step, columns, columns, columns, arrived_step=columns)
    rec.close()
    rec.log_step(99, {"reward": [1.0]})
    rec.close()
    assert open_run(tmp_path / "run").status().data_lost


def test_strict_raises_instead(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as rec:
        with pytest.raises(RecordError, match="'reward'"):
            rec.log_step(0, {"reward": ["text"]})
        rec.log_step(1, {"reward": [1.0]})
        with pytest.raises(RecordError, match="committed already"):
            rec.log_step(1, {"reward": [1.0]})


def test_arguments_that_make_no_sense_raise_before_training(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="rank 2"):
        Recorder(tmp_path / "run", rank=2, world_size=2)
    for name in ("rank", "attempt"):  # readers hold them as numbers of 32 bits
        with pytest.raises(RecordError, match=f"{name} 2147483648 is more than 2147483647"):
            Recorder(tmp_path / "run", **{"world_size": 2**31 - 1, name: 2**31})
    with pytest.raises(RecordError, match="loss_ratio"):
        Recorder(tmp_path / "run", loss_ratio="word")  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="new_attempt"):
        Recorder(tmp_path / "run", rank=0, world_size=2)
    Recorder(tmp_path / "run", rank=0, world_size=2, attempt=0).close()
    with pytest.raises(RecordError, match="before"):
        Recorder(tmp_path / "run", rank=0, world_size=2, attempt=0)


def test_attempts_count_up(tmp_path: Path) -> None:
    for number in range(3):
        assert new_attempt(tmp_path / "run") == number
        with Recorder(tmp_path / "run") as rec:
            rec.log_step(number, {"reward": [float(number)]})
    run = open_run(tmp_path / "run")
    assert [attempt.number for attempt in run.status().attempts] == [0, 1, 2]
    assert run.trajectories["reward"].to_list() == [0.0, 1.0, 2.0]


def test_run_file_is_written_once(tmp_path: Path) -> None:
    Recorder(tmp_path / "run", config={"a": 1}).close()
    before = (tmp_path / "run" / "run.json").read_bytes()
    Recorder(tmp_path / "run", config={"a": 2}).close()
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_closing_seals_everything(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        for step in range(20):
            rec.log_step(step, {"reward": [1.0]})
        rec.log_event(3, "checkpoint")
    files = [path.name for path in (tmp_path / "run").rglob("*.*") if path.is_file()]
    assert not [name for name in files if name.endswith(".arrows") or name.startswith(".")]
    sealed = sorted((tmp_path / "run" / "trajectories").iterdir())
    assert len(sealed) == 1
    assert pl.read_parquet(sealed[0])["step"].to_list() == list(range(20))


def test_segments_rotate_by_size_and_by_schema(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", segment_bytes=20_000) as rec:
        for step in range(12):
            late = {"late_column": [1.0] * 64} if step == 6 else {}
            rec.log_step(step, batch(step) | late)
    run = open_run(tmp_path / "run")
    assert len(list((tmp_path / "run" / "trajectories").iterdir())) > 2
    assert run.trajectories["step"].to_list() == [s for s in range(12) for _ in range(64)]
    assert run.trajectories["late_column"].drop_nulls().len() == 64
    assert not run.status().data_lost


def test_is_safe_to_use_from_several_threads(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        threads = [
            threading.Thread(
                target=lambda first=first: [
                    rec.log_step(step, {"reward": [1.0] * 10}) for step in range(first, 40, 4)
                ]
            )
            for first in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    run = open_run(tmp_path / "run")
    assert run.status().steps_complete == 40
    assert not run.status().data_lost


def test_a_forked_child_does_not_write_into_its_parents_run(tmp_path: Path) -> None:
    code = f"""
import os
from mmhealth import Recorder
rec = Recorder({str(tmp_path / "run")!r})
rec.log_step(0, {{"reward": [1.0]}})
if (child := os.fork()) == 0:
    rec.log_step(1, {{"reward": [1.0]}})
    rec.close()
    os._exit(0)
os.waitpid(child, 0)
rec.log_step(2, {{"reward": [1.0]}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert open_run(tmp_path / "run").trajectories["step"].to_list() == [0, 2]


def test_a_program_that_forgets_to_close_loses_nothing(tmp_path: Path) -> None:
    code = f"""
from mmhealth import Recorder
rec = Recorder({str(tmp_path / "run")!r})
for step in range(5):
    rec.log_step(step, {{"reward": [1.0]}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    run = open_run(tmp_path / "run")
    assert run.status().steps_complete == 5
    assert not list((tmp_path / "run").rglob("*.arrows"))


FASTER_THAN_IT_SEALS = """
import resource, sys
import numpy as np
from mmhealth import Recorder

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

rows = {f"x{number}": np.random.default_rng(number).random(4000) for number in range(8)}
with Recorder(sys.argv[1], segment_bytes=1) as rec:
    for step in range(250):
        rec.log_step(step, rows)
        if step == 50:
            early = resident()
    print(resident() - early)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for its memory")
def test_steps_that_wait_to_be_sealed_hold_no_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FASTER_THAN_IT_SEALS, str(tmp_path / "run")]
    grown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(grown.stdout) < 60  # MiB for 200 steps; a buffer each made it 200
