"""TRL's completions: evaluations among them, and rows that were logged again."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump


def steps_of(run_dir: Path) -> list[int]:
    return list(open_run(run_dir).steps["step"].to_list())


def test_steps_that_trl_evaluated_are_left_out_where_that_is_known(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_trl(tmp_path / "out" / "completions", [1, 2, 3, 4])
    import_dump(tmp_path / "out", tmp_path / "unknown")
    assert steps_of(tmp_path / "unknown") == [1, 2, 3, 4]
    state = tmp_path / "out" / "checkpoint-4" / "trainer_state.json"
    state.parent.mkdir()
    logs = [{"step": 2, "eval_reward": 0.5}, {"step": 3, "reward": 0.5}, {"step": 4, "eval_x": 1}]
    state.write_text(json.dumps({"log_history": logs}))
    done = import_dump(tmp_path / "out", tmp_path / "known")
    assert steps_of(tmp_path / "known") == [1, 3]
    assert [n for what, n in done.problems.notices.items() if "trainer_state" in what] == [16]


def collapsed(folder: Path, steps: int) -> None:
    """Completions of a policy that says one thing."""
    folder.mkdir(parents=True)
    for step in range(1, steps + 1):
        rows = {"prompt": ["p"] * 4, "completion": ["same"] * 4, "r": [0.0] * 4}
        table = pl.DataFrame({"step": [step] * 4} | rows | {"advantage": [0.0] * 4})
        table.write_parquet(folder / f"completions_{step:05d}.parquet")


def test_steps_of_a_policy_without_spread_do_not_vanish(tmp_path: Path) -> None:
    collapsed(tmp_path / "completions", 3)
    done = import_dump(tmp_path, tmp_path / "run")
    assert steps_of(tmp_path / "run") == [1, 2, 3]
    assert [n for what, n in done.problems.notices.items() if "without spread" in what] == [8]


def test_trainer_state_says_which_steps_of_trl_had_sampled(tmp_path: Path) -> None:
    collapsed(tmp_path / "completions", 4)
    logs = [
        {"step": 1, "loss": 0.0, "num_tokens": 8},
        {"step": 2, "loss": 0.0},
        {"step": 3, "loss": 0.0, "num_tokens": 16},
        {"step": 4, "loss": 0.0},
        {"step": 4, "train_loss": 0.0},
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": logs}))
    notices = import_dump(tmp_path, tmp_path / "run").problems.notices
    assert steps_of(tmp_path / "run") == [1, 3]
    assert [n for what, n in notices.items() if "logged again" in what] == [8]


def test_the_same_completions_with_other_rewards_are_another_step(
    tmp_path: Path, writers: Any
) -> None:
    writers.write_trl(tmp_path / "completions", [1, 2], reuse=2)
    path = tmp_path / "completions" / "completions_00002.parquet"
    pl.read_parquet(path).with_columns(accuracy=pl.lit(0.25)).write_parquet(path)
    import_dump(tmp_path, tmp_path / "run")
    assert steps_of(tmp_path / "run") == [1, 2]
