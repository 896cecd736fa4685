"""What every format gives and lacks, and what becomes of records that are wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mmhealth import open_run
from mmhealth.errors import ImportDataError
from mmhealth.health import Monitor
from mmhealth.integrations.dumps import FORMATS, find_dump, import_dump

GIVEN = {
    "nemo": ("nemo-rl", {"reward", "group_id", "length", "turns", "advantage", "log_weight"}),
    "prime": ("prime-rl", {"reward", "group_id", "length", "entropy", "advantage", "log_weight"}),
    "slime": ("slime", {"reward", "group_id", "length", "turns", "advantage", "log_weight"}),
    "skyrl": ("skyrl", {"group_id", "length", "turns", "advantage", "log_weight"}),
    "verl": ("verl", {"reward", "group_id", "acc"}),
    "trl": ("trl", {"reward", "group_id", "advantage", "reward_accuracy"}),
    "areal": ("areal", {"reward", "group_id", "length", "behavior_lag"}),
    "open_instruct": (
        "open-instruct",
        {"reward", "group_id", "length", "advantage", "source", "tool_calls"},
    ),
    "swift": ("ms-swift", {"reward", "group_id", "advantage", "entropy"}),
    "tinker": ("tinker-cookbook", {"reward", "group_id", "length", "turns", "behavior_lag"}),
    "rllm": ("rllm", {"reward", "group_id", "turns", "success", "source"}),
}
KINDS = sorted(GIVEN)


def dump_of(kind: str, writers: Any, folder: Path, steps: range = range(1, 6)) -> Path:
    if kind == "slime":
        pytest.importorskip("torch")
    folder.mkdir(exist_ok=True)
    return getattr(writers, f"write_{kind}")(folder, steps)


def test_every_format_is_tested() -> None:
    of_trajectories = {known.name for known in FORMATS if not known.scalars}
    assert {name for name, _ in GIVEN.values()} == of_trajectories


@pytest.mark.parametrize("kind", KINDS)
def test_a_dump_is_told_imported_and_judged_without_a_flag(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump")
    name, given = GIVEN[kind]
    found = find_dump(dump)
    assert found is not None
    assert found.format.name == name
    done = import_dump(dump, tmp_path / "run")
    assert (done.format, done.steps, done.rows, done.problems.count) == (name, 5, 40, 0)
    run = open_run(tmp_path / "run")
    assert run.complete_steps() == [1, 2, 3, 4, 5]
    assert not run.status().data_lost
    assert set(run.config["lacks"]) == set(done.lacks)
    rows = writers.rows_of_run(tmp_path / "run")
    assert given <= set(rows.columns)
    assert all(rows[column].null_count() == 0 for column in given)
    sizes = rows.group_by("step", "group_id").len()["len"]
    assert sizes.to_list() == [2] * 20
    if "reward" in given and kind != "prime":
        assert rows["reward"].to_list() == [0.0, 1.0] * 20
    monitor = Monitor(tmp_path / "run")
    monitor.poll()
    timeline = monitor.timeline.frame
    assert len(timeline) == 5
    assert timeline["ess_weight"].null_count() == (0 if "log_weight" in given else 5)


@pytest.mark.parametrize("kind", KINDS)
def test_importing_again_adds_nothing_and_a_dump_that_grew_only_what_is_new(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump", range(1, 4))
    import_dump(dump, tmp_path / "run")
    before = writers.files_of(tmp_path / "run")
    assert import_dump(dump, tmp_path / "run").steps == 0
    assert writers.files_of(tmp_path / "run") == before
    if kind in ("swift", "open_instruct"):
        dump_of(kind, writers, dump, range(1, 6))
    else:
        dump_of(kind, writers, dump, range(4, 6))
    again = import_dump(dump, tmp_path / "run")
    # A shard that ends within a step grew: that step is imported anew.
    assert again.steps in (2, 3)
    import_dump(dump, tmp_path / "fresh")
    fresh, grown = (writers.rows_of_run(tmp_path / name) for name in ("fresh", "run"))
    assert_frame_equal(grown, fresh)


def test_log_weights_are_sums_of_raw_token_log_ratios(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1])
    import_dump(dump, tmp_path / "run")
    updates = open_run(tmp_path / "run").updates
    for index, row in enumerate(updates.iter_rows(named=True)):
        record = writers.nemo_record(index)
        ratios = [
            prev - generation
            for bit, prev, generation in zip(
                record["token_loss_mask"][0],
                record["prev_logprobs"][0],
                record["generation_logprobs"][0],
                strict=True,
            )
            if bit
        ]
        assert row["log_weight"] == pytest.approx(sum(ratios), abs=1e-12)
        assert row["log_weight_mismatch"] == row["log_weight"]
        assert row["token_logsum_w"] == pytest.approx(np.log(np.exp(ratios).sum()), abs=1e-12)
        squares = np.log(np.exp(2 * np.array(ratios)).sum())
        assert row["token_logsum_w2"] == pytest.approx(squares, abs=1e-12)
        assert row["log_ratio_max"] == pytest.approx(max(map(abs, ratios)))
        assert row["advantage"] == index % 2 - 0.5


def test_a_heavy_tail_is_not_truncated(tmp_path: Path, writers: Any) -> None:
    record = writers.nemo_record(0)
    record["prev_logprobs"] = [[0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0]]
    record["generation_logprobs"] = [[0, 0, 0, 0, -31, -1, -1, -1, 0, 0, 0, 0]]
    writers.write_lines(tmp_path / "train_data_step1.jsonl", [record])
    import_dump(tmp_path, tmp_path / "run")
    assert open_run(tmp_path / "run").updates["log_weight"].to_list() == [30.0]


def test_all_zero_prev_logprobs_are_unknown_not_on_policy(tmp_path: Path, writers: Any) -> None:
    records = [writers.nemo_record(i, prev_logprobs=[[0.0] * 12]) for i in range(4)]
    writers.write_lines(tmp_path / "train_data_step1.jsonl", records)
    done = import_dump(tmp_path, tmp_path / "run")
    assert "log_weight" not in open_run(tmp_path / "run").updates.columns
    ((what, rows),) = done.problems.notices.items()
    assert what.startswith("log_weight: prev_logprobs are all 0")
    assert rows == 4


def test_rows_masked_out_of_the_loss_were_sampled_and_not_used(
    tmp_path: Path, writers: Any
) -> None:
    records = [writers.nemo_record(i, sample_loss_mask=[float(i > 0)]) for i in range(4)]
    writers.write_lines(tmp_path / "train_data_step1.jsonl", records)
    import_dump(tmp_path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.trajectories["role"].to_list() == ["filtered", "used", "used", "used"]
    assert run.updates["trajectory_id"].to_list() == [1, 2, 3]


def test_rewards_reach_prime_exports_by_their_tokens(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_prime(tmp_path / "dump", [3])
    import_dump(dump, tmp_path / "run")
    rows = open_run(tmp_path / "run").trajectories.sort("group_id", "reward")
    assert rows["reward"].to_list() == [0.5, 1.5] * 4
    assert rows["reward_correct"].to_list() == [0.0, 1.0] * 4
    assert rows["group_id"].to_list() == ["g0", "g0", "g1", "g1", "g2", "g2", "g3", "g3"]
    assert rows["turns"].to_list() == [2] * 8
    histogram = open_run(tmp_path / "run").steps["log_ratio_tool_histogram"].to_list()
    assert sum(histogram[0]) == 16, "two tokens a row come after the tool's answer"


def test_prime_without_exports_without_traces_and_without_stable(
    tmp_path: Path, writers: Any
) -> None:
    dump = writers.write_prime(tmp_path / "dump", [1, 2])
    (dump / "token_exports" / "step_2" / "STABLE").unlink()
    (dump / "rollouts" / "step_1" / "train" / "effective" / "traces.jsonl").unlink()
    done = import_dump(dump, tmp_path / "run")
    assert done.steps == 1
    assert done.problems.notices["reward, group_id: no trace has the tokens of this sequence"] == 8
    assert any("no STABLE" in what for what in done.problems.notices)
    for path in (dump / "token_exports").rglob("*"):
        path.unlink() if path.is_file() else None
    done = import_dump(dump, tmp_path / "traces")
    assert (done.steps, done.rows) == (1, 8)
    assert any("enable_token_export is off" in what for what in done.problems.notices)


def test_trl_rows_logged_under_several_steps_count_once(tmp_path: Path, writers: Any) -> None:
    writers.write_trl(tmp_path / "completions", range(1, 7), reuse=2)
    done = import_dump(tmp_path, tmp_path / "run")
    assert open_run(tmp_path / "run").steps["step"].to_list() == [1, 3, 5]
    ((what, rows),) = [item for item in done.problems.notices.items() if "num_iter" in item[0]]
    assert rows == 24, what


def test_several_reward_functions_have_no_total(tmp_path: Path, writers: Any) -> None:
    record = writers.swift_record(1) | {"format": [None, 1.0] * 4}
    writers.write_lines(tmp_path / "swift" / "completions.jsonl", [record])
    path = writers.write_trl(tmp_path / "trl", [1]) / "completions_00001.parquet"
    both = pl.read_parquet(path).with_columns(format=pl.Series([None, 1.0] * 4), note=pl.lit("x"))
    both.write_parquet(path)
    for kind in ("swift", "trl"):
        done = import_dump(tmp_path / kind, tmp_path / f"run-{kind}")
        rows = open_run(tmp_path / f"run-{kind}").trajectories
        assert rows["reward_format"].to_list() == [None, 1.0] * 4
        assert not {"reward", "reward_note"} & set(rows.columns)
        assert [n for what, n in done.problems.notices.items() if what.startswith("reward")] == [8]


def test_an_older_verl_without_uid_is_grouped_by_its_prompts(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_verl(tmp_path / "dump", [1])
    lines = (dump / "1.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["uid"]
    writers.write_lines(dump / "1.jsonl", records)
    done = import_dump(dump, tmp_path / "run")
    rows = open_run(tmp_path / "run").trajectories
    assert rows.group_by("group_id").len()["len"].to_list() == [2] * 4
    assert any(what.startswith("uid:") for what in done.problems.notices)


LINE_FILES = {
    "nemo": ("train_data_step2.jsonl", "rewards", [["x"]]),
    "verl": ("2.jsonl", "score", "x"),
    "tinker": ("iteration_000002/train_rollout_summaries.jsonl", "total_reward", "x"),
    "areal": ("2/8.jsonl", "reward", "x"),
    "open_instruct": ("run_rollouts_000000.jsonl", "reward", "x"),
    "swift": ("completions.jsonl", "advantages", "x"),
    "prime": ("token_exports/step_2/rank_0.jsonl", "trainer_logprobs", "x"),
}
"""A file that has a second line, a field that is needed, and what it must not be."""


@pytest.mark.parametrize("kind", sorted(LINE_FILES))
@pytest.mark.parametrize("wrong", ["cut", "no json", "no object", "missing", "bad value"])
def test_a_bad_line_is_named_and_the_good_ones_are_kept(
    tmp_path: Path, writers: Any, kind: str, wrong: str
) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump")
    name, field, bad = LINE_FILES[kind]
    path = dump / name
    lines = path.read_text().splitlines(keepends=True)
    record = json.loads(lines[1])
    number, rows = 2, 8 if kind == "swift" else 1
    match wrong:
        case "cut":
            number, lines[-1] = len(lines), lines[-1][:-20]
            why = "the file ends within this line"
        case "no json":
            lines[1], why = "{'a': 1}\n", "not valid JSON"
        case "no object":
            lines[1], why = "[1]\n", "not a JSON object"
        case "missing":
            needed = "step" if kind == "swift" else field
            lines[1] = json.dumps({k: v for k, v in record.items() if k != needed}) + "\n"
            why = f"field '{needed}' is missing"
        case _:
            lines[1], why = json.dumps(record | {field: bad}) + "\n", f"field '{field}'"
    path.write_text("".join(lines))
    done = import_dump(dump, tmp_path / "run")
    assert done.problems.count == 1
    (problem,) = done.problems.first
    assert str(problem).startswith(f"{path}:{number}: ")
    assert why in str(problem)
    assert done.rows == 40 - rows
    assert len(open_run(tmp_path / "run").trajectories) == done.rows


@pytest.mark.parametrize("kind", ["tinker", "prime"])
def test_an_unknown_schema_version_is_refused_line_by_line(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump")
    path = dump / LINE_FILES[kind][0]
    first, *others = path.read_text().splitlines(keepends=True)
    changed = json.dumps(json.loads(first) | {"schema_version": 2}) + "\n"
    path.write_text(changed + "".join(others))
    done = import_dump(dump, tmp_path / "run")
    why = f"{path}:1: field 'schema_version' is 2; this mmhealth reads 1"
    assert [str(problem) for problem in done.problems.first] == [why]
    assert done.rows == 39


def test_nan_and_infinity_stay_what_they_are_and_are_counted(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2])
    records = [writers.nemo_record(i, step=2) for i in range(8)]
    records[0]["rewards"] = [float("nan")]
    records[1]["prev_logprobs"][0][5] = float("-inf")
    records[2]["prev_logprobs"][0][5] = float("nan")
    writers.write_lines(dump / "train_data_step2.jsonl", records)
    done = import_dump(dump, tmp_path / "run")
    assert (done.rows, done.problems.count) == (16, 0)
    run = open_run(tmp_path / "run")
    assert np.isnan(run.trajectories.filter(step=2)["reward"][0])
    weights = run.updates.filter(step=2)["log_weight"]
    assert weights[1] == float("-inf")
    assert np.isnan(weights[2])
    monitor = Monitor(tmp_path / "run")
    monitor.poll()
    assert monitor.timeline.frame["nonfinite"].to_list()[0] == 0
    assert monitor.timeline.frame["nonfinite"].to_list()[1] > 0


def test_null_in_a_prime_export_is_not_finite(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_prime(tmp_path / "dump", [1])
    record = writers.prime_export(0, 1)
    record["trainer_logprobs"][4] = None
    writers.write_lines(dump / "token_exports" / "step_1" / "rank_0.jsonl", [record])
    import_dump(dump, tmp_path / "run")
    assert np.isnan(open_run(tmp_path / "run").updates["log_weight"][0])


@pytest.mark.parametrize("wrong", ["not parquet", "no column"])
def test_a_parquet_file_that_cannot_be_read_is_named(
    tmp_path: Path, writers: Any, wrong: str
) -> None:
    dump = writers.write_trl(tmp_path / "completions", range(1, 4))
    path = dump / "completions_00002.parquet"
    if wrong == "not parquet":
        path.write_bytes(b"PAR1 and then nothing")
    else:
        pl.DataFrame({"prompt": ["a"]}).write_parquet(path)
    done = import_dump(dump, tmp_path / "run")
    assert done.steps == 2
    (problem,) = done.problems.first
    why = "not a Parquet file" if wrong == "not parquet" else "column 'completion' is missing"
    assert str(problem).startswith(f"{path}: {why}")


def test_an_episode_that_is_no_json_is_named_with_its_line(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_rllm(tmp_path / "dump", [1])
    path = sorted((dump / "train_step_1_epoch_0").glob("episode_*"))[0]
    path.write_text(path.read_text()[:-40])
    done = import_dump(dump, tmp_path / "run")
    (problem,) = done.problems.first
    assert problem.path == path
    assert problem.line is not None
    assert done.rows == 7


def test_several_dumps_in_one_place_are_not_guessed(tmp_path: Path, writers: Any) -> None:
    writers.write_nemo(tmp_path / "logs" / "exp_001", [1])
    assert import_dump(tmp_path / "logs", tmp_path / "one").steps == 1
    writers.write_nemo(tmp_path / "logs" / "exp_002", [1])
    with pytest.raises(ImportDataError, match=r"2 dumps are there: .*exp_001 \(nemo-rl\)"):
        import_dump(tmp_path / "logs", tmp_path / "run")
    writers.write_open_instruct(tmp_path / "shards", [1])
    writers.write_lines(tmp_path / "shards" / "other_rollouts_000000.jsonl", [])
    with pytest.raises(ImportDataError, match="several runs: other, run"):
        import_dump(tmp_path / "shards", tmp_path / "run")


def test_what_is_no_dump_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImportDataError, match="no such file or folder"):
        import_dump(tmp_path / "none", tmp_path / "run")
    (tmp_path / "1.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ImportDataError, match="is not a dump of a trainer that mmhealth knows"):
        import_dump(tmp_path, tmp_path / "run")
    with pytest.raises(ImportDataError, match="is not a verl dump"):
        import_dump(tmp_path, tmp_path / "run", format="verl")
    with pytest.raises(ImportDataError, match="'vrl' is no format of a dump; known: nemo-rl"):
        import_dump(tmp_path, tmp_path / "run", format="vrl")


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_after_each_step_and_reaches_the_end(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump")
    told: list[tuple[int, int, int]] = []
    done = import_dump(dump, tmp_path / "run", progress=lambda *now: told.append(now))
    assert len(told) == done.steps
    assert told == sorted(told)
    read, total, rows = told[-1]
    assert (read, rows) == (total, done.rows)
    assert total > 0
