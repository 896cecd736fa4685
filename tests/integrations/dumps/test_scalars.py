"""Logs of scalars: written by TensorBoard's and W&B's own writers, and line by line."""

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from mmhealth import open_run
from mmhealth.errors import ImportDataError
from mmhealth.health import Monitor
from mmhealth.integrations.dumps import find_dump, import_dump
from mmhealth.integrations.dumps.scalars.crc32c import crc32c
from mmhealth.integrations.dumps.scalars.tensorboard import parse_event

TRL = {
    "train/reward": 0.5,
    "train/entropy": 1.5,
    "train/kl": 0.01,
    "train/loss": 0.125,
    "train/learning_rate": 1e-6,
    "train/grad_norm": 2.0,
    "train/clip_ratio/region_mean": 0.25,
    "train/completions/mean_length": 64.0,
    "train/frac_reward_zero_std": 0.75,
}
OURS = {
    "reward": 0.5,
    "entropy": 1.5,
    "kl_ref": 0.01,
    "loss": 0.125,
    "lr": 1e-6,
    "grad_norm": 2.0,
    "clip_fraction": 0.25,
    "length": 64.0,
}
VERL = {
    "critic/score/mean": 0.5,
    "critic/rewards/mean": 0.4,
    "actor/entropy": 1.5,
    "actor/kl_loss": 0.01,
    "actor/pg_loss": 0.125,
    "actor/lr": 1e-6,
    "actor/grad_norm": 2.0,
    "actor/pg_clipfrac": 0.25,
    "response_length/mean": 64.0,
}
PRIME = [
    {"train/all/solver/reward/mean": 0.5, "train/all/solver/num_output_tokens/mean": 64.0},
    {"optim/lr": 1e-6, "optim/grad_norm": 2.0},
    {"entropy/all/mean": 1.5, "loss/mean": 0.125},
]


def write_events(folder: Path, steps: Iterable[int], values: Mapping[str, float] = TRL) -> Path:
    """An event a scalar, as ``SummaryWriter.add_scalar`` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.out.tfevents.1700000000.host.1.0"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1e9, file_version="brain.Event:2").SerializeToString())
        for step in steps:
            for tag, value in values.items():
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                event = Event(wall_time=1e9 + step, step=step, summary=summary)
                writer.write(event.SerializeToString())
    return path


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_verl(path: Path, steps: Iterable[int]) -> Path:
    return write_lines(path, [{"step": step, "data": VERL} for step in steps])


def steps_of(run_dir: Path) -> list[dict[str, Any]]:
    """The scalars of each step that is in view."""
    own = {"nominal_batch", "sampled", "used", "ranks_expected", "time", "rank", "attempt"}
    return [
        {name: value for name, value in row.items() if name not in own}
        for row in open_run(run_dir).steps.to_dicts()
    ]


def of_tensorboard(folder: Path) -> Path:
    write_events(folder / "runs" / "a", range(1, 6))
    return folder


def of_verl(folder: Path) -> Path:
    return write_verl(folder / "project" / "experiment.jsonl", range(1, 6)).parent


def of_prime(folder: Path) -> Path:
    records = [{"step": step, "time": 1.0} | part for step in range(1, 6) for part in PRIME]
    return write_lines(folder / "metrics.jsonl", records).parent


@pytest.mark.parametrize(
    ("write", "name", "gives"),
    [
        (of_tensorboard, "tensorboard", OURS | {"train/frac_reward_zero_std": 0.75}),
        (of_verl, "verl-file", OURS | {"critic/rewards/mean": 0.4}),
        (
            of_prime,
            "metrics-jsonl",
            {n: OURS[n] for n in OURS if n not in ("kl_ref", "clip_fraction")},
        ),
    ],
)
def test_a_log_is_told_and_imported_under_our_names_once(
    tmp_path: Path, write: Any, name: str, gives: dict[str, float]
) -> None:
    log = write(tmp_path / "log")
    done = import_dump(log, tmp_path / "run")
    assert (done.format, done.steps, done.rows, done.problems.count) == (name, 5, 0, 0)
    rows = steps_of(tmp_path / "run")
    assert rows == [pytest.approx(gives | {"step": step}, rel=1e-6) for step in range(1, 6)]
    assert "trajectories" in open_run(tmp_path / "run").config["lacks"]
    assert import_dump(log, tmp_path / "run").steps == 0


def test_what_a_log_says_is_judged_and_nothing_else(tmp_path: Path) -> None:
    records = [
        {
            "step": step,
            "data": {"actor/entropy": 2.0**-step, "actor/grad_norm": None if step == 19 else 1},
        }
        for step in range(1, 25)
    ]
    write_lines(tmp_path / "log.jsonl", records)
    import_dump(tmp_path / "log.jsonl", tmp_path / "run")
    monitor = Monitor(tmp_path / "run")
    monitor.poll()
    assert {alert.rule for alert in monitor.alerts} == {"entropy_collapse", "nonfinite"}
    frame = monitor.timeline.frame
    assert frame["entropy"].to_list() == [2.0**-step for step in range(1, 25)]
    assert frame["nonfinite"].to_list() == [int(step == 19) for step in range(1, 25)]
    for metric in ("ess_weight", "ess_signal", "ess_contribution", "reward", "success_rate"):
        assert frame[metric].null_count() == 24
        assert monitor.timeline.reason(24, metric) is not None


def test_a_dump_of_trajectories_beside_a_log_goes_first(tmp_path: Path, writers: Any) -> None:
    of_tensorboard(tmp_path)
    of_prime(tmp_path)
    writers.write_trl(tmp_path / "completions", [1, 2])
    found = find_dump(tmp_path)
    assert found is not None
    assert found.format.name == "trl"
    with_name = find_dump(tmp_path, "tensorboard")
    assert with_name is not None
    assert with_name.root == tmp_path / "runs" / "a"


def test_several_logs_are_listed_and_none_is_guessed(tmp_path: Path) -> None:
    of_tensorboard(tmp_path)
    of_prime(tmp_path)
    with pytest.raises(ImportDataError, match=r"2 dumps are there.*tensorboard.*metrics-jsonl"):
        find_dump(tmp_path)


def test_hyperparameters_below_a_folder_of_events_are_no_run_of_their_own(tmp_path: Path) -> None:
    write_events(tmp_path / "run", [1])
    write_events(tmp_path / "run" / "1700000000.1", [1], {"hparams": 1.0})
    found = find_dump(tmp_path)
    assert found is not None
    assert found.root == tmp_path / "run"


WANDB = """
import sys, wandb
settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
run = wandb.init(project="p", mode="offline", dir=sys.argv[1], settings=settings)
for step in range(5):
    run.log({"train/reward": 0.5, "train/kl": float("nan"), "train/global_step": 10 * step,
             "nested": {"a": 1.5}, "text": "x", "flag": True, "many": [0] * 20000})
    run.log({"eval/reward": 0.25})
run.finish()
"""


def test_an_offline_run_of_wandb_by_its_own_writer(tmp_path: Path) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    environment = os.environ | {"WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", WANDB, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert log.stat().st_size > 3 * 32768, "records that span blocks are among them"
    done = import_dump(tmp_path, tmp_path / "run")
    assert (done.format, done.root, done.steps) == ("wandb", log, 5)
    assert done.problems.count == 0
    rows = steps_of(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert [(row["reward"], row["nested.a"], row["eval/reward"]) for row in rows] == [
        (0.5, 1.5, 0.25)
    ] * 5
    assert all(math.isnan(row["kl_ref"]) for row in rows)
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    log.write_bytes(damaged)
    again = import_dump(tmp_path, tmp_path / "damaged")
    assert again.problems.first[0].path == log
    assert "wrong checksum" in again.problems.first[0].why
    assert 1 <= again.steps <= 5
    log.write_bytes(damaged[: len(damaged) // 3])
    cut = import_dump(tmp_path, tmp_path / "cut")
    assert "the file ends within this record" in str(cut.problems.first[-1])
    assert cut.steps >= 1


def test_crc32c_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


NUMBERS = st.floats(width=32, allow_nan=False)


@given(
    step=st.integers(0, 2**53 - 1),
    moment=st.floats(allow_nan=False),
    plain=st.dictionaries(st.text(max_size=9), NUMBERS, max_size=4),
    double=NUMBERS,
)
def test_what_tensorboard_writes_is_what_is_read(
    step: int, moment: float, plain: dict[str, float], double: float
) -> None:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in plain.items()]
    tensors = {
        "packed": TensorProto(dtype=DT_DOUBLE, tensor_content=struct.pack("<d", double)),
        "listed": TensorProto(dtype=DT_FLOAT, float_val=[double]),
        "vector": TensorProto(dtype=DT_FLOAT, float_val=[double, double]),
        "words": TensorProto(dtype=DT_STRING, string_val=[b"x"]),
    }
    values += [Summary.Value(tag=f"tensor {tag}", tensor=t) for tag, t in tensors.items()]
    event = Event(wall_time=moment, step=step, summary=Summary(value=values))
    expected = plain | {"tensor packed": double, "tensor listed": double}
    assert parse_event(event.SerializeToString()) == (moment, step, expected)


def test_damaged_events_are_named_and_the_others_kept(tmp_path: Path) -> None:
    path = write_events(tmp_path / "log", range(1, 4), {"train/reward": 0.5})
    content = path.read_bytes()
    starts = [0]
    while starts[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, starts[-1])
        starts.append(starts[-1] + 16 + length)
    flipped = bytearray(content)
    flipped[starts[2] + 20] ^= 1
    path.write_bytes(flipped)
    done = import_dump(tmp_path / "log", tmp_path / "flipped")
    assert [str(problem) for problem in done.problems.first] == [
        f"{path}:3: this event has the wrong checksum"
    ]
    assert [row["step"] for row in steps_of(tmp_path / "flipped")] == [1, 3]
    flipped[starts[2]] ^= 1
    path.write_bytes(flipped)
    done = import_dump(tmp_path / "log", tmp_path / "length")
    assert "nothing behind it can be read" in str(done.problems.first[0])
    assert [row["step"] for row in steps_of(tmp_path / "length")] == [1]
    path.write_bytes(content[:-5])
    done = import_dump(tmp_path / "log", tmp_path / "cut")
    assert str(done.problems.first[0]) == f"{path}:4: the file ends within this event"
    assert [row["step"] for row in steps_of(tmp_path / "cut")] == [1, 2]
    assert import_dump(tmp_path / "log", tmp_path / "growing", settle=0.0).problems.count == 0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"step": 2, "data": [1]}', "field 'data' is no JSON object: [1]"),
        ('{"step": 2.5, "data": {}}', "field 'step' is not a whole number: 2.5"),
        ('{"step": -1, "data": {"a": 1}}', "step -1 is no step"),
        ('{"data": {"a": 1}}', "field 'step' is missing"),
        ('{"step": 2, "da', "not valid JSON"),
    ],
)
def test_lines_that_are_wrong_are_named_and_the_others_kept(
    tmp_path: Path, line: str, why: str
) -> None:
    path = write_verl(tmp_path / "log.jsonl", [1, 2, 3])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    done = import_dump(tmp_path, tmp_path / "run")
    assert str(done.problems.first[0]).startswith(f"{path}:2: {why}")
    assert [row["step"] for row in steps_of(tmp_path / "run")] == [1, 2, 3]


def test_names_that_a_run_has_for_itself_are_not_taken(tmp_path: Path) -> None:
    values = {"sampled": 1.0, "rank": 2.0, "attempt": 3.0, "reward": 0.5, "train/reward": 0.25}
    write_lines(tmp_path / "log.jsonl", [{"step": 1, "data": values}])
    import_dump(tmp_path, tmp_path / "run")
    (row,) = steps_of(tmp_path / "run")
    assert row == {
        "step": 1,
        "reward": 0.5,
        "train/reward": 0.25,
        "sampled_given": 1.0,
        "rank_given": 2.0,
        "attempt_given": 3.0,
    }


ANY_NUMBER = st.floats() | st.integers(-(10**30), 10**30) | st.booleans() | st.none()
ANY_NAME = st.text(max_size=4) | st.sampled_from(["\ud800", "\x00", "rank", "", "train/*", *OURS])


@given(
    records=st.lists(
        st.tuples(
            st.integers(-1, 40) | st.sampled_from([2**53, 2.0, 2.5, None, "1", True]),
            st.dictionaries(ANY_NAME, ANY_NUMBER | st.text(max_size=2) | st.lists(st.none())),
        ),
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_scalars_become_steps_or_named_problems(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[Any, Any]]
) -> None:
    place = tmp_path_factory.mktemp("any")
    lines = [{"step": 0, "data": {"a": 1}}, *({"step": s, "data": d} for s, d in records)]
    write_lines(place / "log.jsonl", lines)
    done = import_dump(place / "log.jsonl", place / "run")
    assert done.problems.count <= len(records)
    assert 0 in open_run(place / "run").complete_steps()
