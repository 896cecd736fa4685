"""Trainers that change what TRL's own methods return, or go on after they have failed."""

import functools
import logging
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import trl

from mmhealth.integrations.trl import attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

Batch = dict[str, Any]


def taken(batch: Batch, rows: list[int]) -> Batch:
    """Rows of a batch of TRL's."""
    size = len(batch["advantages"])
    at = torch.tensor(rows)
    return {
        name: value[at]
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == size
        else value
        for name, value in batch.items()
    }


def trained(trainer: Any, kind: str, methods: dict[str, Any], **options: Any) -> Any:
    """A trainer of a subclass that has these methods."""
    known = getattr(trl, f"{kind}Trainer")
    attached = trainer(kind, **options)
    attached.__class__ = type("Mine", (known,), methods)
    return attached


def used(run: Any, step: int) -> pl.DataFrame:
    keys = ["step", "trajectory_id"]
    rows = run.trajectories.join(run.updates.drop("role"), on=keys, how="inner")
    return rows.filter(pl.col("step") == step, pl.col("update") == 0).sort("trajectory_id")


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_rows_in_another_order_keep_their_own_rewards_and_weights(kind, trainer, tmp_path):
    def reverse(self: Any, inputs: Any) -> Batch:
        batch = super(self.mine, self)._generate_and_score_completions(inputs)
        return taken(batch, list(reversed(range(len(batch["advantages"])))))

    attached = trained(trainer, kind, {"_generate_and_score_completions": reverse}, max_steps=1)
    attached.mine = type(attached)
    attach(attached, tmp_path / "run", columns=["source"], strict=True)
    attached.train()
    rows = used(open_run(tmp_path / "run"), 0)
    logs = attached._logs
    assert rows["advantage"].to_list() == list(logs["advantages"])[::-1]
    given = [None if np.isnan(r) else r for r in logs["rewards"]["early"]]
    assert rows["reward_early"].to_list() == given[::-1]
    assert rows["source"].to_list() == [prompt[0] for prompt in logs["prompt"]][::-1]
    assert rows["group_id"].to_list() == [1] * 4 + [0] * 4
    assert rows["log_weight"].to_list() == [0.0] * 8  # rounding, with its own log probabilities


def test_rows_left_out_are_filtered_and_repeated_ones_count_again(trainer, tmp_path):
    """As dynamic sampling does: two calls, of which some rows are kept."""
    kept = [12, 1, 1, 7, 15, 0, 3, 9]

    def dynamic(self: Any, inputs: Any) -> Batch:
        generate = super(self.mine, self)._generate_and_score_completions
        one, two = generate(inputs), generate(inputs)
        width = max(len(batch["completion_mask"][0]) for batch in (one, two))
        both: Batch = {}
        for name, value in one.items():
            if not isinstance(value, torch.Tensor) or not value.dim():
                both[name] = value
                continue
            pair = [value, two[name]]
            if value.dim() == 2 and name.startswith("completion"):
                pair = [torch.nn.functional.pad(v, (0, width - v.shape[1])) for v in pair]
            both[name] = torch.cat(pair)
        self.pool = both["advantages"].tolist()
        return taken(both, kept)

    attached = trained(trainer, "GRPO", {"_generate_and_score_completions": dynamic}, max_steps=1)
    attached.mine = type(attached)
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    rows = used(run, 0)
    assert rows["advantage"].to_list() == [attached.pool[at] for at in kept]
    assert rows["group_id"].to_list() == [at // 4 for at in kept]
    left = run.trajectories.filter(pl.col("role") == "filtered").sort("trajectory_id")
    others = sorted(set(range(16)) - set(kept))
    assert left["trajectory_id"].to_list() == list(range(8, 8 + len(others)))
    assert left["group_id"].to_list() == [at // 4 for at in others]
    assert left["reward"].null_count() == left["length"].null_count() - len(others) == 0
    whole = pl.concat([rows.select("group_id", "reward"), left.select("group_id", "reward")])
    place = [*kept, *others]
    for group in range(4):
        at = {p: r for p, r in zip(place, whole["reward"], strict=True) if p // 4 == group}
        rewards = np.array([at[p] for p in sorted(at)])
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert attached.pool[4 * group : 4 * group + 4] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_batches_that_cannot_be_joined_are_said_to_be(kind, trainer, tmp_path, caplog):
    def rebuilt(self: Any, inputs: Any) -> Batch:
        batch = super(self.mine, self)._generate_and_score_completions(inputs)
        order = list(reversed(range(len(batch["advantages"]))))
        own = {k: v for k, v in batch.items() if not k.startswith("mmhealth")}
        return taken(own, order)

    attached = trained(trainer, kind, {"_generate_and_score_completions": rebuilt}, max_steps=2)
    attached.mine = type(attached)
    attach(attached, tmp_path / "run", columns=["source"], strict=True)
    with caplog.at_level(logging.WARNING, "mmhealth"):
        attached.train()
    run = open_run(tmp_path / "run")
    assert {"reward", "group_id", "source"}.isdisjoint(run.trajectories.columns)
    assert caplog.text.count("Mine makes batches of its own") == 1
    assert run.events["kind"].to_list() == ["degraded"]
    if kind == "GRPO":
        last = list(attached._logs["advantages"])[::-1]
        assert used(run, 1)["advantage"].to_list() == last
    else:
        assert not len(run.updates)  # their old log probabilities cannot be joined either


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_micro_batch_that_is_skipped_is_missing_and_no_more(where, trainer, tmp_path):
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        try:
            return super(self.mine, self).training_step(model, inputs, num_items_in_batch)
        except MemoryError:
            self._step += 1
            return torch.tensor(0.0)

    @functools.wraps(trl.GRPOTrainer._get_per_token_logps_and_entropies)
    def scores(self: Any, *args: Any, **kwargs: Any) -> Any:
        in_loss = torch.is_grad_enabled() and self.is_in_train
        if where == "forward" and in_loss:
            fail()
        found = super(self.mine, self)._get_per_token_logps_and_entropies(*args, **kwargs)
        if where == "backward" and in_loss:
            found[0].register_hook(fail)
        return found

    methods = {"training_step": training_step, "_get_per_token_logps_and_entropies": scores}
    attached = trained(trainer, "GRPO", methods, max_steps=5)
    attached.mine = type(attached)
    attachment = attach(attached, tmp_path / "run", strict=True)
    held = []
    step_end = attached.callback_handler.callbacks[-1].on_step_end

    def on_step_end(*args: Any, **kwargs: Any) -> Any:
        control = step_end(*args, **kwargs)
        held.append(len(open_run(tmp_path / "run").steps))
        return control

    attached.callback_handler.callbacks[-1].on_step_end = on_step_end
    attached.train()
    run = open_run(tmp_path / "run")
    assert run.steps["step"].to_list() == [0, 1, 2, 3, 4]
    assert held == [1, 1, 3, 4, 5]
    assert run.updates.group_by("step").len().sort("step")["len"].to_list() == [8, 4, 8, 8, 8]
    assert not run.updates["grad_norm"].null_count()
    assert not len(run.events)
    assert attachment.recorder.summary()["losses"] == []
