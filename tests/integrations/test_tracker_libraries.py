"""`mmhealth export` to W&B, MLflow and trackio as they are, read back from what they store."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.integrations.trackers import HealthSteps

Told = list[tuple[int, dict[str, float]]]


@pytest.fixture
def run(tmp_path: Path, batch: Any) -> Callable[[int], Path]:
    """Records steps up to a number into one run, a new attempt each time that it goes on."""

    def record(upto: int, attempt: int = 0, start: int = 0) -> Path:
        path = tmp_path / "run"
        with Recorder(path, nominal_batch=64, attempt=attempt, start_step=start) as recorder:
            for step in range(start, upto):
                recorder.log_step(step, batch(step, mixed=1.0 if step < 3 else 0.1))
        return path

    return record


def need(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def export(run: Path, to: str, **env: str) -> str:
    """What the command printed."""
    done = subprocess.run(
        [sys.executable, "-m", "mmhealth", "export", str(run), "--to", to],
        env=os.environ | env,
        cwd=run.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(program: str, *arguments: object, **env: str) -> Any:
    """What a program prints as its last line, as JSON."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def expected(run: Path) -> Told:
    return [(step.key.step, dict(step.values)) for step in HealthSteps(run).read()]


def test_wandb_offline_has_each_step_once(run: Any, tmp_path: Path) -> None:
    need("wandb")
    env = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    path = run(4)
    assert export(path, "wandb=mine", **env) == "wandb=mine: 4 steps sent\n"
    first = expected(path)
    run(6, attempt=1, start=2)
    assert export(path, "wandb=mine", **env) == "wandb=mine: 4 steps sent\n"
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name)
    records = [record for file in files for record in wandb_records(file)]
    told = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            ours = {name: value for name, value in row.items() if name.startswith("mmhealth/")}
            told.append((ours.pop("mmhealth/step"), ours))
    assert told == first + [row for row in expected(path) if row[1]["mmhealth/attempt"] == 1]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {run.project for run in runs} == {"mine"}
    assert len({run.run_id for run in runs}) == 1


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a W&B transaction log: a header, then LevelDB's log format in 32 KiB blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, body = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        body += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(body)
            body = b""


_MLFLOW = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
[experiment] = [e for e in client.search_experiments() if e.name == "mmhealth"]
[run] = client.search_runs([experiment.experiment_id])
history = {
    name: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, name)]
    for name in run.data.metrics
}
print(json.dumps([run.info.run_name, run.info.status, history]))
"""


def test_mlflow_has_each_step_once_also_where_an_export_was_cut_off(
    run: Any, tmp_path: Path
) -> None:
    need("mlflow")
    env = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    uri = (tmp_path / "mlruns").as_uri()
    path = run(4)
    assert export(path, f"mlflow={uri}", **env) == f"mlflow={uri}: 4 steps sent\n"
    [ledger] = tmp_path.glob("run.export-mlflow-*.json")
    state = json.loads(ledger.read_text())
    assert state["sent"] == [0, 3]
    ledger.write_text(json.dumps(state | {"sent": [0, 0], "sending": [0, 5]}))
    run(6, attempt=1, start=4)
    assert export(path, f"mlflow={uri}", **env) == f"mlflow={uri}: 2 steps sent\n"
    name, status, history = read(_MLFLOW, uri, **env)
    assert (name, status) == ("run", "FINISHED")
    steps = HealthSteps(path).read()
    told: dict[str, list[list[float]]] = {}
    for step in steps:
        for metric, value in step.values.items():
            told.setdefault(metric, []).append([step.key.step, value, int(step.time * 1000)])
    assert history == told


def test_a_tracker_that_cannot_be_reached_is_named(run: Any, unused_port: int) -> None:
    need("mlflow")
    env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "mmhealth", "export", str(run(1))]
    done = subprocess.run(
        [*command, "--to", f"mlflow=http://me:s3cret@127.0.0.1:{unused_port}"],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "mmhealth: mlflow: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("library", "env", "why"),
    [
        ("wandb", {"WANDB_MODE": "bogus"}, "input_value='bogus'"),
        (
            "trackio",
            {"TRACKIO_SPACE_ID": "me/space", "HF_ENDPOINT": "{nobody}"},
            "cannot be reached",
        ),
    ],
)
def test_settings_that_lead_nowhere_are_told_in_a_line(
    library: str, env: dict[str, str], why: str, run: Any, tmp_path: Path, unused_port: int
) -> None:
    need(library)
    nobody = f"http://127.0.0.1:{unused_port}"
    own = {"HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "t"), "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-m", "mmhealth", "export", str(run(1)), "--to", library],
        env=os.environ | own | {name: value.format(nobody=nobody) for name, value in env.items()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    [told] = [line for line in done.stderr.splitlines() if line.startswith("mmhealth: ")]
    assert told.startswith(f"mmhealth: {library}: ")
    assert why in told
    assert "Traceback" not in done.stderr


_TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
[run] = trackio.Api().runs("mine")
print(json.dumps([run.name, SQLiteStorage.get_logs("mine", run.name)]))
"""


def test_trackio_has_each_step_once(run: Any, tmp_path: Path) -> None:
    need("trackio")
    env = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    path = run(3)
    assert "\ntrackio=mine: 3 steps sent\n" in export(path, "trackio=mine", **env)
    run(6, attempt=1, start=3)
    assert "\ntrackio=mine: 3 steps sent\n" in export(path, "trackio=mine", **env)
    name, logs = read(_TRACKIO, **env)
    assert name.startswith("run-")
    told = [
        (log.pop("step"), {k: v for k, v in log.items() if k[:9] == "mmhealth/"}) for log in logs
    ]
    assert told == expected(path)


_IN_PROCESS = """
import json, os, sys
import trackio, wandb
from mmhealth import Recorder
from mmhealth.integrations.trackers import forwarding

mine = wandb.init(project="p", id="training")
trackio.init(project="mine", name="training", auto_log_cpu=False)
with Recorder("run") as recorder, forwarding("run", to=["wandb", "trackio=mine"], poll=0.01):
    for step in range(5):
        recorder.log_step(step, {"reward": [0.0, 1.0]})
        wandb.log({"loss": step}, step=step)
        trackio.log({"loss": step}, step=step)
assert wandb.run is mine
wandb.log({"loss": 5}, step=5)
trackio.log({"loss": 5}, step=5)
wandb.finish()
trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
logs = {run.name: SQLiteStorage.get_logs("mine", run.name) for run in trackio.Api().runs("mine")}
print(json.dumps({name: [log["step"] for log in told] for name, told in logs.items()}))
"""


def test_the_trackers_that_training_has_open_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("wandb")
    need("trackio")
    monkeypatch.chdir(tmp_path)
    env = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_SILENT": "true",
        "WANDB_RUN_ID": "training",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }
    trackio = read(_IN_PROCESS, **env)
    assert trackio.pop("training") == list(range(6))
    assert list(trackio.values()) == [list(range(5))]
    rows = {
        file.stem.removeprefix("run-"): sum(
            record.WhichOneof("record_type") == "history" for record in wandb_records(file)
        )
        for file in tmp_path.glob("wandb/offline-run-*/*.wandb")
    }
    assert rows.pop("training") == 6
    assert list(rows.values()) == [5]
