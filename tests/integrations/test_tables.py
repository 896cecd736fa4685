import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mmhealth import Recorder, open_run
from mmhealth.errors import ImportDataError
from mmhealth.health import Monitor
from mmhealth.integrations import import_table


@pytest.fixture
def table(batch: Any) -> pl.DataFrame:
    """Ten steps of 64 rows under another trainer's names."""
    steps = [
        pl.DataFrame(batch(step)).with_columns(pl.lit(step).alias("iteration"))
        for step in range(10)
    ]
    return pl.concat(steps).rename({"reward": "score", "grad_norm": "gnorm"})


MAP = {"step": "iteration", "reward": "score", "grad_norm": "gnorm"}


def write(table: pl.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".parquet":
            table.write_parquet(path)
        case ".csv":
            table.write_csv(path)
        case _:
            table.write_ndjson(path)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_an_imported_run_is_what_a_recorder_would_have_written(
    tmp_path: Path, table: pl.DataFrame, batch: Any, name: str, shuffled: bool
) -> None:
    with Recorder(tmp_path / "recorded", strict=True) as recorder:
        for step in range(10):
            recorder.log_step(step, batch(step))
    if shuffled:
        order = np.random.default_rng(0).permutation(len(table))
        table = table[order]
    done = import_table(write(table, tmp_path / name), MAP, tmp_path / "imported")
    assert (done.rows, done.steps, done.left_out) == (640, 10, ())
    recorded, imported = (Monitor(tmp_path / name) for name in ("recorded", "imported"))
    recorded.poll()
    imported.poll()
    ours, theirs = (m.timeline.frame.drop("time", "nominal_batch") for m in (recorded, imported))
    assert_frame_equal(ours, theirs, check_exact=True)
    assert not imported.run.status().data_lost
    assert imported.run.config["map"]["reward"] == "score"


def test_rows_of_a_step_anywhere_in_the_file_end_in_one_step_in_their_order(
    tmp_path: Path,
) -> None:
    table = pl.DataFrame({"step": [2, 0, 2, 1, 0, 2], "reward": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    import_table(write(table, tmp_path / "t.csv"), {}, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.steps["step"].to_list() == [0, 1, 2]
    assert run.trajectories["reward"].to_list() == [2.0, 5.0, 4.0, 1.0, 3.0, 6.0]


def test_a_row_a_use_when_there_is_a_column_update(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "step": [0] * 4,
            "update": [0, 0, 1, 1],
            "trajectory_id": ["a", "b", "a", "b"],
            "reward": [1.0, 0.0, 1.0, 0.0],
            "advantage": [0.5, -0.5, 0.4, -0.4],
        }
    )
    import_table(write(table, tmp_path / "t.parquet"), {}, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.trajectories["trajectory_id"].to_list() == ["a", "b"]
    assert run.updates["advantage"].to_list() == [0.5, -0.5, 0.4, -0.4]
    assert run.updates["update"].to_list() == [0, 0, 1, 1]


def test_csv_values_keep_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "step,group_id,reward,success,length,task,note\n"
        '0,007,NaN,True,12,3,"a, ""b""\nc"\n'
        "0,12,,false,,,\n"
        "0,x, 1.5 ,1,7.0,4,z\n"
    )
    mapping = {"task": "task", "remark": "note"}
    import_table(tmp_path / "t.csv", mapping, tmp_path / "run", constants={"source": "judge"})
    rows = open_run(tmp_path / "run").trajectories
    assert rows["group_id"].to_list() == ["007", "12", "x"]
    assert np.isnan(rows["reward"][0])
    assert rows["reward"].to_list()[1:] == [None, 1.5]
    assert rows["success"].to_list() == [True, False, True]
    assert rows["length"].to_list() == [12, None, 7]
    assert rows["task"].to_list() == [3, None, 4]
    assert rows["remark"].to_list() == ['a, "b"\nc', None, "z"]
    assert rows["source"].to_list() == ["judge"] * 3


def test_json_values_keep_their_meaning(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "group_id": 7, "reward": 1, "log_weight": float("-inf")},
        {"step": 0, "group_id": "x", "reward": 0.5, "log_weight": float("nan"), "late": True},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows)
    (tmp_path / "t.jsonl").write_text(text)
    import_table(tmp_path / "t.jsonl", {"own": "late"}, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.trajectories["group_id"].to_list() == ["7", "x"]
    assert run.trajectories["own"].to_list() == [None, True]
    assert run.updates["log_weight"][0] == float("-inf")
    assert np.isnan(run.updates["log_weight"][1])


def test_a_constant_step_makes_one_step(tmp_path: Path) -> None:
    write(pl.DataFrame({"reward": [1.0, 0.0]}), tmp_path / "t.csv")
    done = import_table(tmp_path / "t.csv", {}, tmp_path / "run", constants={"step": "7"})
    assert (done.steps, done.rows) == (1, 2)
    assert open_run(tmp_path / "run").steps["step"].to_list() == [7]


def test_columns_that_were_not_asked_for_are_named(tmp_path: Path, table: pl.DataFrame) -> None:
    table = table.with_columns(prompt=pl.lit("p"), completion=pl.lit("c"))
    done = import_table(write(table, tmp_path / "t.parquet"), MAP, tmp_path / "run")
    assert done.left_out == ("prompt", "completion")
    assert "prompt" not in open_run(tmp_path / "run").trajectories.columns


BAD = [
    ("t.csv", "step,reward\n0,1\n0,oops\n", {}, "row 2, column 'reward': 'oops' is not a number"),
    ("t.csv", "it,reward\n0,1\n", {}, "no column 'step'.*--map step=THEIRS.*columns: it, reward"),
    ("t.csv", "step,scores\n0,1\n", {"reward": "score"}, "'score'.*did you mean 'scores'"),
    ("t.csv", "step,score\n0,1\n", {"rewrd": "score"}, "did you mean 'reward'"),
    ("t.csv", "step,r\n0,1\n", {"rank": "r"}, "cannot be called 'rank'"),
    ("t.csv", "step,r\n0,1\n", {"nominal_batch": "r"}, "--nominal-batch"),
    ("t.csv", "step,reward\n,1\n", {}, "row 1, column 'step': there is no value"),
    ("t.csv", "step,reward\n0.5,1\n", {}, "row 1, column 'step': '0.5' is not a whole number"),
    ("t.csv", "step,ok\n0,2\n", {"success": "ok"}, r"'ok' \(mapped to 'success'\): '2' is not"),
    ("t.csv", "step,reward\n0\n", {}, "Expected 2 columns"),
    ("t.csv", "step,reward,step\n0,1,1\n", {}, "'step' is there twice"),
    ("t.csv", "step,reward\n", {}, "no rows"),
    ("t.csv", "", {}, "empty"),
    ("t.csv", "step,trajectory_id\n0,a\n0,a\n", {}, "step 0: trajectory_id 'a' is there twice"),
    ("t.csv", "step,update\n0,0\n0,1\n", {}, "step 0: 'update' needs 'trajectory_id'"),
    ("t.csv", "step,role\n0,boss\n", {}, "step 0: unknown role"),
    ("t.jsonl", '{"step": 0}\n\n{"step": }\n', {}, "line 3: not valid JSON"),
    ("t.jsonl", '{"step": 0}\n[1]\n', {}, "line 2: not a JSON object"),
    (
        "t.jsonl",
        '{"step": 0, "reward": [1]}\n',
        {},
        r"line 1, .*: \[1\] is not a number",
    ),
    ("t.parquet", "no parquet", {}, "not a Parquet file"),
    ("t.pkl", "x", {}, "known: .parquet, .csv"),
]


@pytest.mark.parametrize(("name", "text", "mapping", "why"), BAD)
def test_what_is_wrong_is_named_and_nothing_is_left_behind(
    tmp_path: Path, name: str, text: str, mapping: dict[str, str], why: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ImportDataError, match=why) as error:
        import_table(tmp_path / name, mapping, tmp_path / "run")
    assert str(tmp_path / name) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportDataError, match=r"no\.csv: there is no such file"):
        import_table(tmp_path / "no.csv", {}, tmp_path / "run")


def test_an_existing_run_is_replaced_only_when_told_and_only_an_imported_one(
    tmp_path: Path, table: pl.DataFrame, record: Any
) -> None:
    path = write(table, tmp_path / "t.parquet")
    import_table(path, MAP, tmp_path / "run")
    first = open_run(tmp_path / "run").id
    with pytest.raises(ImportDataError, match="already holds a run: pass --replace"):
        import_table(path, MAP, tmp_path / "run")
    import_table(path, MAP, tmp_path / "run", replace=True)
    assert open_run(tmp_path / "run").id != first
    recorded = record(tmp_path / "recorded", [1.0])
    with pytest.raises(ImportDataError, match="recorded by a trainer"):
        import_table(path, MAP, recorded, replace=True)
    with pytest.raises(ImportDataError, match="not a run directory"):
        import_table(path, MAP, tmp_path)


def test_progress_reaches_the_end(tmp_path: Path, table: pl.DataFrame) -> None:
    seen: list[tuple[int, int]] = []
    import_table(
        write(table, tmp_path / "t.csv"),
        MAP,
        tmp_path / "run",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (64, 640)
    assert seen[-1] == (640, 640)


def test_many_steps_in_any_order_go_through_several_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmhealth.integrations.ordering._BUCKET_ROWS", 100)
    rng = np.random.default_rng(0)
    steps = np.repeat(np.arange(50), 40)
    rng.shuffle(steps)
    table = pl.DataFrame({"step": steps, "reward": np.arange(2000.0)})
    import_table(write(table, tmp_path / "t.parquet"), {}, tmp_path / "run")
    rows = open_run(tmp_path / "run").trajectories
    expected = table.sort("step", maintain_order=True)
    assert rows["reward"].to_list() == expected["reward"].to_list()
