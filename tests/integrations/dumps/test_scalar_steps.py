"""How the records of a log of scalars become steps: late, again, and while it grows."""

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump


def write(path: Path, records: Iterable[tuple[int, dict[str, float]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"step": step} | values) + "\n" for step, values in records)
    path.write_text("".join(lines))
    return path


def seen(run_dir: Path) -> list[dict[str, Any]]:
    """Scalars by step, as a reader sees them."""
    steps = open_run(run_dir).steps.drop("time", "rank", "attempt")
    return [{k: v for k, v in row.items() if v is not None} for row in steps.to_dicts()]


def test_a_trainer_that_lags_behind_its_sampler_is_one_run(tmp_path: Path) -> None:
    sampler = [(step + 2, step, {"scores": float(step)}) for step in range(40)]
    trainer = [(step + 4.5, step, {"loss/mean": float(-step)}) for step in range(40)]
    records = [(step, values) for _, step, values in sorted(sampler + trainer, key=lambda r: r[0])]
    write(tmp_path / "metrics.jsonl", records)
    assert import_dump(tmp_path, tmp_path / "run").steps == 40
    steps = open_run(tmp_path / "run").steps
    assert steps["reward"].to_list() == [float(step) for step in range(40)]
    assert steps["loss"].to_list() == [float(-step) for step in range(40)]
    assert steps["attempt"].unique().to_list() == [0]


def test_a_trainer_that_went_back_begins_a_new_attempt(tmp_path: Path) -> None:
    before = [(step, {"scores": 0.0}) for step in range(1, 31)]
    after = [(step, {"scores": 1.0}) for step in range(20, 26)]
    write(tmp_path / "metrics.jsonl", before + after)
    assert import_dump(tmp_path, tmp_path / "run").steps == 36
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == list(range(1, 26))
    assert run.steps["reward"].to_list() == [0.0] * 19 + [1.0] * 6
    assert import_dump(tmp_path, tmp_path / "run").steps == 0


def test_a_trainer_that_went_back_and_says_the_same_again_hides_its_later_steps(
    tmp_path: Path,
) -> None:
    before = [(step, {"scores": 0.5}) for step in range(1, 101)]
    write(tmp_path / "metrics.jsonl", before)
    import_dump(tmp_path, tmp_path / "run")
    write(tmp_path / "metrics.jsonl", before + [(step, {"scores": 0.5}) for step in (41, 42)])
    assert import_dump(tmp_path, tmp_path / "run").steps == 2
    assert open_run(tmp_path / "run").complete_steps() == list(range(1, 43))
    assert import_dump(tmp_path, tmp_path / "run").steps == 0


def test_values_that_come_far_too_late_are_left_out_and_said(tmp_path: Path) -> None:
    records = [(step, {"scores": 0.0}) for step in range(1, 31)]
    write(tmp_path / "metrics.jsonl", [*records, (3, {"eval": 1.0}), (29, {"eval": 2.0})])
    done = import_dump(tmp_path, tmp_path / "run")
    assert done.problems.notices == {"values logged more than 16 steps late are left out": 1}
    rows = seen(tmp_path / "run")
    assert [row["step"] for row in rows if "eval" in row] == [29]
    assert len(rows) == 30


def test_event_files_of_two_writers_are_merged_by_time(tmp_path: Path) -> None:
    for tag, late in (("train/loss", 0.0), ("eval/score", 5.0)):
        (tmp_path / "log").mkdir(exist_ok=True)
        path = tmp_path / "log" / f"events.out.tfevents.1.host.1.{late:.0f}"
        with path.open("wb") as file:
            writer = RecordWriter(file)
            for step in range(1, 41):
                values = Summary(value=[Summary.Value(tag=tag, simple_value=step)])
                event = Event(wall_time=1e9 + step + late, step=step, summary=values)
                writer.write(event.SerializeToString())
    import_dump(tmp_path / "log", tmp_path / "run")
    steps = open_run(tmp_path / "run").steps
    assert steps["loss"].to_list() == steps["eval/score"].to_list() == list(range(1, 41))
    assert steps["attempt"].unique().to_list() == [0]


def test_of_a_growing_log_the_steps_that_may_go_on_wait(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", [(step, {"scores": 0.0}) for step in range(1, 11)])
    looked = import_dump(tmp_path, tmp_path / "run", settle=10.0)
    assert (looked.steps, looked.waiting) == (6, 7)
    write(path, [(step, {"scores": 0.0}) for step in range(1, 12)])
    assert import_dump(tmp_path, tmp_path / "run", settle=10.0).steps == 1
    os.utime(path, (1, 1))
    assert import_dump(tmp_path, tmp_path / "run", settle=10.0).steps == 4
    assert open_run(tmp_path / "run").complete_steps() == list(range(1, 12))


def test_a_log_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", [(step, {"scores": 0.0}) for step in range(1, 31)])
    import_dump(tmp_path, tmp_path / "run")
    write(path, [(step, {"scores": 1.0 if step > 20 else 0.0}) for step in range(1, 26)])
    assert import_dump(tmp_path, tmp_path / "run").steps == 5
    assert [row["reward"] for row in seen(tmp_path / "run")] == [0.0] * 20 + [1.0] * 5


@given(
    seed=st.integers(0, 99),
    cuts=st.lists(st.floats(0, 1), max_size=3),
    growing=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_wherever_a_growing_log_is_looked_at_the_end_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: list[float], growing: bool
) -> None:
    place = tmp_path_factory.mktemp("cuts")
    chance = random.Random(seed)
    names = ("scores", "loss/mean", "entropy/all/mean")
    logged = [
        (step + chance.uniform(0, 3), step, {name: chance.random()})
        for step in range(1, 30)
        for name in names
    ]
    logged.sort(key=lambda record: record[0])
    per_name = {name: [r for r in logged if name in r[2]] for name in names}
    for records in per_name.values():  # a scalar itself is logged in order of steps
        for record, step in zip(list(records), sorted(r[1] for r in records), strict=True):
            logged[logged.index(record)] = (record[0], step, record[2])
    path = write(place / "log" / "metrics.jsonl", [(step, values) for _, step, values in logged])
    content = path.read_bytes()
    for cut in sorted(cuts):
        path.write_bytes(content[: int(cut * len(content))])
        if b"\n" in path.read_bytes():
            import_dump(place / "log", place / "run", settle=0.0 if growing else None)
    path.write_bytes(content)
    assert import_dump(place / "log", place / "run").problems.count == 0
    import_dump(place / "log", place / "fresh")
    assert seen(place / "run") == seen(place / "fresh")
    assert len(seen(place / "fresh")) == 29
    assert import_dump(place / "log", place / "run").steps == 0
