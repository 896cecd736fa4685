"""What is recorded is what TRL itself says of the same rollouts."""

import logging
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from datasets import Dataset

from mmhealth.health import build_timeline
from mmhealth.integrations.trl import HealthMixin, attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def joined(run: Any) -> pl.DataFrame:
    """Trajectories with their uses, in the order in which they were sampled."""
    updates = run.updates.drop("role", "attempt")
    keys = ["step", "rank", "trajectory_id"]
    return run.trajectories.join(updates, on=keys).sort(*keys, "update")


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_rows_join_rewards_advantages_and_prompts(kind, trainer, tmp_path):
    attached = trainer(kind, max_steps=2, reward_weights=[0.5, 2.0])
    attach(attached, tmp_path / "run", columns=["source"], strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    last = joined(run).filter(pl.col("step") == 1)
    logs = attached._logs
    assert last["advantage"].to_list() == list(logs["advantages"])
    for name in ("early", "short"):
        given = [None if np.isnan(r) else r for r in logs["rewards"][name]]
        assert last[f"reward_{name}"].to_list() == given
    both = (np.array(logs["rewards"][name]) for name in ("early", "short"))
    rewards = np.nansum([weight * r for weight, r in zip((0.5, 2.0), both, strict=True)], axis=0)
    assert last["reward"].to_list() == pytest.approx(rewards.tolist())
    assert last["source"].to_list() == [prompt[0] for prompt in logs["prompt"]]
    assert last["group_id"].to_list() == [0] * 4 + [1] * 4
    words = [len(text.split()) for text in logs["completion"]]
    ends = [length - count for length, count in zip(last["length"], words, strict=True)]
    assert set(ends) <= {0, 1}  # the end of a text is a token, and no word
    assert last["entropy"].is_between(0, np.log(22)).all()
    assert run.complete_steps() == [0, 1]
    assert run.step_data(1).nominal_batch == 8
    assert run.step_data(1).scalars["lr"] == 5e-3


@pytest.mark.parametrize(("success", "least"), [("short", 1.0), (("early", 0.5), 0.5)])
def test_one_reward_function_tells_success(success, least, trainer, tmp_path):
    attached = trainer("GRPO", max_steps=2)
    attach(attached, tmp_path / "run", success=success, strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    column = "reward_short" if success == "short" else "reward_early"
    given = run.trajectories[column].to_list()
    assert run.config["success"] == f"{column} >= {least:g}"
    told = run.trajectories["success"].to_list()
    assert told == [None if value is None else value >= least for value in given]
    assert {True, False} <= set(told)
    assert build_timeline(run).frame["solved_group_share"][0] is not None


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_group_of_one_reward_has_no_advantage_whatever_rounding_makes_of_it(
    kind, trainer, tmp_path
):
    """The mean of eight rewards of 1.4 is another number in float32; GRPO divides that by 1e-4."""
    attached = trainer(kind, num_generations=8, per_device_train_batch_size=8, max_steps=1)
    attached.reward_funcs = [
        lambda completions, **_: [1.4] * 8 + [0.4] * (len(completions) - 8 - 4) + [1.4] * 4,
        lambda completions, **_: [0.0] * len(completions),
    ]
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    given = list(attached._logs["advantages"])
    found = joined(open_run(tmp_path / "run"))["advantage"].to_list()
    assert 0 < max(map(abs, given[:8])) < 0.01
    assert found == [0.0] * 8 + given[8:]
    assert min(map(abs, found[8:])) > 0.1


def test_reward_functions_of_one_name_have_a_column_each(trainer, tmp_path):
    attached = trainer("GRPO", max_steps=1)
    attached.reward_funcs = [
        lambda completions, **_: [1.0] * len(completions),
        lambda completions, **_: [5.0] * len(completions),
    ]
    attached.reward_func_names = ["<lambda>"] * 2
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    rows = open_run(tmp_path / "run").trajectories
    assert rows["reward_<lambda>"].unique().to_list() == [1.0]
    assert rows["reward_<lambda>_2"].unique().to_list() == [5.0]


def test_updates_of_one_rollout_are_numbered_and_weights_move(trainer, tmp_path):
    attached = trainer("GRPO", num_iterations=3, max_steps=6)
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    updates = run.updates
    assert updates.group_by("step", "update").len()["len"].to_list() == [8] * 6
    assert set(updates["update"]) == {0, 1, 2}
    moved = updates.group_by("update").agg(pl.col("log_ratio_max").max()).sort("update")
    first, second, third = moved["log_ratio_max"]
    assert first < 1e-5 < second < third
    assert set(updates.filter(pl.col("update") == 0)["log_weight"]) == {0.0}
    assert run.trajectories["behavior_lag"].to_list() == [0] * 16


def test_minibatches_of_one_rollout_age(trainer, tmp_path):
    attached = trainer("RLOO", steps_per_generation=4, gradient_accumulation_steps=2, max_steps=2)
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    assert run.updates["update"].to_list() == [0] * 8 + [1] * 8
    assert sorted(run.updates["trajectory_id"]) == list(range(16))
    lags = joined(run)
    assert lags["behavior_lag"].to_list() == lags["update"].to_list()


def test_the_sampler_s_ratio_and_what_follows_a_tool(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.manual_seed(5)
    given: list[list[float]] = []

    def rollouts(prompts: list[Any], _trainer: Any) -> dict[str, Any]:
        lengths = [3 + i % 3 for i in range(len(prompts))]
        logps = [(-3 + torch.rand(n)).tolist() for n in lengths]
        given.extend(logps)
        return {
            "prompt_ids": [[2, 3] for _ in prompts],
            "completion_ids": [torch.randint(2, 22, (n,)).tolist() for n in lengths],
            "logprobs": logps,
            "env_mask": [[1, 0, *[1] * (n - 2)] for n in lengths],
        }

    attached = trainer("GRPO", rollout_func=rollouts, max_steps=1)
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert [limit for limit in attachment.limits if limit.startswith("mismatch: recorded")]
    attached.train()
    run = open_run(tmp_path / "run")
    rows = joined(run)
    assert rows["log_weight"].to_list() == rows["log_weight_mismatch"].to_list()
    assert 0.0 not in rows["log_weight"].to_list()
    assert rows["length"].to_list() == [len(g) - 1 for g in given]
    histograms = run.step_data(0).histograms
    whole, after = (int(h.sum()) for _, h in sorted(histograms.items()))
    assert (whole, after) == (sum(len(g) - 1 for g in given), sum(len(g) - 2 for g in given))


def test_log_probabilities_that_the_sampler_lacks_are_told(trainer, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def rollouts(prompts: list[Any], _trainer: Any) -> dict[str, Any]:
        some = [[-1.0, None, -2.0], [None] * 3]
        return {
            "prompt_ids": [[2, 3] for _ in prompts],
            "completion_ids": [[4, 5, 6] for _ in prompts],
            "logprobs": [some[i % 2] for i in range(len(prompts))],
        }

    attached = trainer("GRPO", rollout_func=rollouts, max_steps=2)
    attach(attached, tmp_path / "run", strict=True)
    with caplog.at_level(logging.WARNING, "mmhealth"):
        attached.train()
    run = open_run(tmp_path / "run")
    rows = joined(run)
    assert rows["log_weight_mismatch"].is_null().to_list() == [False, True] * 8
    assert rows["log_weight"].filter(rows["log_weight_mismatch"].is_null()).to_list() == [0.0] * 8
    assert run.events["kind"].to_list() == ["degraded"]
    assert caplog.text.count("no log probability for some tokens") == 1
    assert run.step_data(1).scalars["sampler_lacks"] == 4 * 1 + 4 * 3


def test_masked_completions_are_filtered_rows(trainer, tmp_path):
    attached = trainer("GRPO", mask_truncated_completions=True)
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    roles = run.trajectories["role"].value_counts().sort("role")
    assert roles["role"].to_list() == ["filtered", "used"]
    assert len(run.updates) == roles["count"][1]


def test_the_mixin_and_the_reference_model(trainer, tmp_path):
    base = trainer("GRPO")
    base.model.save_pretrained(tmp_path / "model")

    class Mine(HealthMixin, type(base)):
        pass

    base.args.beta = 0.1
    base.model.config._name_or_path = str(tmp_path / "model")
    mine = Mine(
        model=base.model,
        reward_funcs=base.reward_funcs,
        args=base.args,
        train_dataset=base.train_dataset,
        processing_class=base.processing_class,
        run_dir=tmp_path / "run",
        health={"norms": False},
    )
    assert "norms=False" in mine.health.limits[-1]
    mine.train()
    run = open_run(tmp_path / "run")
    kl = run.trajectories.group_by("step").agg(pl.col("kl_ref").max()).sort("step")["kl_ref"]
    assert kl[0] < 1e-9
    assert min(kl[1], kl[2]) > 1e-5
    assert "grad_norm" not in run.updates.columns


def test_evaluation_is_no_training(trainer, tmp_path):
    attached = trainer(
        "GRPO",
        max_steps=2,
        eval_dataset=Dataset.from_list([{"prompt": "a b"}, {"prompt": "c"}]),
        eval_strategy="steps",
        eval_steps=1,
        num_generations_eval=2,
        per_device_eval_batch_size=4,
    )
    attach(attached, tmp_path / "run", strict=True)
    attached.train()
    assert "eval_loss" in str(attached.state.log_history)
    run = open_run(tmp_path / "run")
    assert len(run.trajectories) == len(run.updates) == 16


def test_norms_in_every_other_step_alone(trainer, tmp_path):
    attached = trainer("GRPO")
    attachment = attach(attached, tmp_path / "run", norms_every=2, strict=True)
    assert attachment.limits[-1] == "gradient norms: in one of 2 steps"
    attached.train()
    run = open_run(tmp_path / "run")
    assert run.updates.drop_nulls("grad_norm")["step"].unique().to_list() == [0, 2]
