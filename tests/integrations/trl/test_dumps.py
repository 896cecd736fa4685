"""What a TRL trainer itself leaves behind, imported: completions, and TensorBoard's events."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
STEPS = 4


@pytest.fixture
def trained(trainer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A GRPO trainer that has trained with ``log_completions`` and TensorBoard."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "out" / "runs"))
    made = trainer(
        "GRPO",
        log_completions=True,
        logging_steps=1,
        max_steps=STEPS,
        report_to="tensorboard",
        num_completions_to_print=0,
    )
    made.train()
    return made


def test_what_grpo_writes_is_what_is_imported(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = import_dump(out, tmp_path / "run")
    assert (done.format, done.steps, done.problems.count) == ("trl", STEPS, 0)
    run = open_run(tmp_path / "run")
    for step in range(1, STEPS + 1):
        wrote = pd.read_parquet(out / "completions" / f"completions_{step:05d}.parquet")
        rows = run.trajectories.filter(step=step)
        used = run.updates.filter(step=step)
        assert len(rows) == len(wrote) == 8
        assert rows["reward_early"].to_list() == wrote["early"].to_list()
        assert used["advantage"].to_list() == wrote["advantage"].to_list()
        assert rows["group_id"].n_unique() == wrote["prompt"].nunique()

    of_events = import_dump(out, tmp_path / "scalars", format="tensorboard")
    assert (of_events.steps, of_events.problems.count) == (STEPS, 0)
    steps = open_run(tmp_path / "scalars").steps
    logged = [entry for entry in trained.state.log_history if "reward" in entry]
    for ours, theirs in (
        ("reward", "reward"),
        ("entropy", "entropy"),
        ("loss", "loss"),
        ("lr", "learning_rate"),
        ("grad_norm", "grad_norm"),
        ("clip_fraction", "clip_ratio/region_mean"),
        ("length", "completions/mean_length"),
        ("train/reward_std", "reward_std"),
    ):
        assert steps[ours].to_list() == pytest.approx([entry[theirs] for entry in logged], rel=1e-6)
