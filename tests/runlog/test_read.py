"""A table read step by step is the table, and its schema is known before any row is read."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, Run, open_run

TABLES = ("trajectories", "updates", "steps")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two ranks and a restart; columns come late, widen, and get values afterwards."""
    rng = np.random.default_rng(0)
    for attempt, first, last in ((0, 0, 5), (1, 3, 8)):
        for rank in range(2):
            with Recorder(
                tmp_path / "run", rank=rank, world_size=2, attempt=attempt, start_step=first
            ) as recorder:
                for step in range(first, last):
                    columns = {"log_weight": rng.normal(size=4), "rating": rng.integers(9, size=4)}
                    if step >= 4:
                        columns |= {"rating": rng.normal(size=4), "note": ["a", "b", "c", "d"]}
                    recorder.log_step(step, columns, scalars={"loss": rng.normal()})
                for trajectory, value in ((0, 1.0), (2, 0.0)):
                    recorder.amend(3, trajectory, "success", value, arrived_step=last)
    return open_run(tmp_path / "run")


@pytest.mark.parametrize("table", TABLES)
def test_steps_one_after_the_other_are_the_table(run: Run, table: str) -> None:
    whole, steps = getattr(run, table), list(run.read(table))
    assert [part["step"].unique().to_list() for part in steps] == [[step] for step in range(8)]
    assert pl.concat(steps, how="diagonal_relaxed").select(whole.columns).equals(whole)


def test_only_columns_asked_for_are_read_and_late_values_are_there(run: Run) -> None:
    [step] = [part for part in run.read("trajectories", ["success"]) if part["step"][0] == 3]
    assert set(step.columns) == {"step", "rank", "attempt", "trajectory_id", "success"}
    assert step["success"].to_list() == [True, None, False, None] * 2


@pytest.mark.parametrize("table", TABLES)
def test_the_schema_is_that_of_the_table(run: Run, table: str) -> None:
    assert dict(run.schema(table)) == dict(getattr(run, table).schema)


def test_a_table_without_rows_has_no_columns(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run"):
        run = open_run(tmp_path / "run")
        assert (list(run.read("trajectories")), dict(run.schema("trajectories"))) == ([], {})


def test_an_open_tail_has_its_schema(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, {"reward": np.ones(3), "horizon": [1, 2, 3]})
        run = open_run(tmp_path / "run")
        assert run.schema("trajectories")["horizon"] == pl.Int64


def test_late_values_that_fit_nothing_are_counted_over_all_steps_that_stand(tmp_path: Path) -> None:
    lost, hidden = [(1, 9), (2, "a"), (8, 0)], [(3, 9), (9, 0)]
    for start, late in ((0, [lost[0], *hidden]), (2, [*lost[1:], (3, 0)])):
        with Recorder(tmp_path / "run", start_step=start) as recorder:
            for step in range(start, 4):
                recorder.log_step(step, {"reward": np.ones(3)})
            for step, trajectory in late:
                recorder.amend(step, trajectory, "reward", 2.0, arrived_step=4)
    assert open_run(tmp_path / "run").status().amendments_unmatched == len(lost)
