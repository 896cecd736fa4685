import dataclasses
import math

import numpy as np
import pytest
import torch

from mmhealth.errors import RunError
from mmhealth.interventions import EssAdaptive
from mmhealth.reference import ENVIRONMENTS, StepLog, Trainer, preset, train
from mmhealth.runlog import open_run

CURABLE = [name for name in ENVIRONMENTS if name != "modalities"]
"""Worlds with fixes; what cures `modalities` is its schedule of data."""


@pytest.fixture
def logs_of(small, alarm):
    def run(environment: str, name: str, **kw) -> list[StepLog]:
        source = kw.pop("alarm", None) or alarm(3, 6)
        logs: list[StepLog] = []

        def see(log: StepLog) -> None:
            logs.append(log)
            source.saw(log)

        options = {"record": False, "monitor": source, "progress": False}
        options |= {"config": small(environment, name)} | kw
        train(environment, name, on_step=see, **options)
        return logs

    return run


def same(a, b) -> bool:
    """Equal to the last bit, through lists, tensors and dataclasses."""
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("environment", CURABLE)
def test_deterministic_for_a_seed(environment, logs_of):
    first = logs_of(environment, "all", steps=8)
    torch.manual_seed(99)
    assert same(first, logs_of(environment, "all", steps=8))
    assert not same(first, logs_of(environment, "all", steps=8, seed=1))


@pytest.mark.parametrize("environment", CURABLE)
@pytest.mark.parametrize("name", ["baseline", "all"])
def test_a_resumed_run_equals_an_uninterrupted_one(environment, name, logs_of, tmp_path):
    whole = logs_of(environment, name, steps=14)
    logs_of(environment, name, steps=7, checkpoint_dir=tmp_path, checkpoint_every=3)
    rest = logs_of(environment, name, steps=14, checkpoint_dir=tmp_path, resume=True)
    assert [log.step for log in rest] == list(range(6, 14))
    assert same(rest, whole[6:])


@pytest.mark.parametrize("stop", [2, 5, 11])
@pytest.mark.parametrize("name", ["ess", "unified"])
def test_resumes_whatever_the_ess_loop_is_doing(name, stop, logs_of, tmp_path):
    whole = logs_of("F2", name, steps=14)
    logs_of("F2", name, steps=stop, checkpoint_dir=tmp_path, checkpoint_every=2)
    rest = logs_of("F2", name, steps=14, checkpoint_dir=tmp_path, resume=True)
    assert same(rest, whole[stop // 2 * 2 :])


def test_the_ess_loop_acts_only_while_its_alert_tells_it_to(logs_of):
    baseline = logs_of("F2", "baseline", steps=14)
    fixed = logs_of("F2", "ess", steps=14)
    active = [log.step for log in fixed if log.scalars["kl_coef"] > 0]
    assert active == [4, 5, 6, 7, 8, 9]
    assert [(log.step, log.switched) for log in fixed if log.switched is not None] == [
        (4, True),
        (10, False),
    ]
    assert any(log.scalars["injected"] > 0 for log in fixed)
    for before, after in zip(baseline[:4], fixed[:4], strict=True):
        assert same(before.updates, after.updates)


def test_rows_add_up_and_injected_rows_have_ids_of_their_own(logs_of):
    for log in logs_of("F2", "ess", steps=10):
        roles = log.trajectories["role"]
        ids = log.trajectories["trajectory_id"].tolist()
        assert ids == list(range(len(roles)))
        assert len(log.updates) == 2
        for columns in log.updates:
            assert columns["trajectory_id"].tolist() == ids
            assert columns["role"] == roles
            assert roles.count("used") + roles.count("injected") == 128
            assert roles.count("used") + roles.count("replaced") == 128
        sampled = torch.tensor([role != "injected" for role in roles])
        rewards, groups = log.trajectories["reward"], log.trajectories["group_id"]
        for row in range(len(roles)):
            members = rewards[sampled & (groups == groups[row])]
            expected = rewards[row] - members.sum() / len(members)
            assert torch.equal(log.updates[0]["advantage"][row], expected)


def test_injected_rows_keep_their_raw_log_weight_beside_what_the_loss_multiplied(logs_of):
    log = next(log for log in logs_of("F2", "ess", steps=10) if log.scalars["injected"])
    columns = log.updates[0]
    injected = torch.tensor([role == "injected" for role in columns["role"]])
    raw, used = columns["log_weight"], columns["weight_used"]
    assert torch.allclose(used[injected].log(), (raw[injected] / 10).clamp(-2, 1), atol=1e-6)
    assert torch.allclose(used[~injected].log(), raw[~injected].clamp(-20, 20), atol=1e-6)


def test_refuses_a_checkpoint_of_another_configuration(logs_of, small, tmp_path):
    logs_of("F2", "baseline", steps=2, checkpoint_dir=tmp_path, checkpoint_every=2)
    other = small("F2", learning_rate=0.5)
    with pytest.raises(RunError, match="another loop"):
        logs_of("F2", "baseline", steps=4, checkpoint_dir=tmp_path, resume=True, config=other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"environment": "F9", "record": False}, "F9.*F2"),
        ({"preset": "cure", "record": False}, "cure.*ess"),
        ({"preset": "mixed", "record": False}, "mixed"),
        ({"preset": "baseline"}, "run_dir"),
        ({"preset": "ess", "record": False}, "alerts"),
    ],
)
def test_refuses_arguments_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        train(**({"environment": "F2"} | options))


@pytest.mark.parametrize("environment", CURABLE)
def test_all_switches_on_every_fix_that_does_not_stand_in_for_others(environment):
    fixes = preset(environment, "all").fixes
    off = type(fixes)()
    on = {
        f.name for f in dataclasses.fields(fixes) if getattr(fixes, f.name) != getattr(off, f.name)
    }
    assert on
    assert not on & {"reliability", "unified"}
    assert preset(environment, "baseline").fixes == off


def test_writes_a_run_that_can_be_read(logs_of, small, alarm, tmp_path):
    logs: list[StepLog] = []
    run_dir = tmp_path / "run"
    train(
        "F2",
        "ess",
        run_dir=run_dir,
        steps=5,
        config=small("F2", "ess"),
        progress=False,
        on_step=logs.append,
    )
    run = open_run(run_dir)
    assert run.about["loss_ratio"] == "sequence"
    assert run.about["nominal_batch"] == 128
    assert run.about["config"]["preset"] == "ess"
    assert same(logs, logs_of("F2", "ess", steps=5, alarm=alarm(99, 99)))
    for log in logs:
        data = run.step_data(log.step)
        assert data is not None
        assert data.complete
        norms = np.concatenate([part["grad_norm"].numpy() for part in log.updates])
        assert data.updates["grad_norm"].to_list() == norms.tolist()
        assert data.trajectories["score"].to_list() == log.trajectories["score"].tolist()
    solved = [log.evaluations[0].successes for log in logs]
    assert run.evaluations["successes"].to_list() == solved
    assert run.evaluations["train_horizons"].to_list() == [[1]] * 5


@pytest.mark.parametrize("fix", ["ess", "unified"])
def test_refuses_a_fix_that_would_do_nothing(small, fix):
    fixes = preset("F2", fix).fixes
    config = dataclasses.replace(small("F4"), fixes=fixes)
    control = EssAdaptive(fixes.ess) if fixes.ess else None
    with pytest.raises(ValueError, match=f"to_go.*{fix}"):
        Trainer(config, 0, control)


def test_refuses_rows_from_a_reserve_beside_advantages_within_a_horizon(small):
    config = dataclasses.replace(small("F5"), fixes=preset("F2", "unified").fixes)
    with pytest.raises(ValueError, match=r"horizon.*repair"):
        Trainer(config, 0)


def test_refuses_the_ess_loop_without_a_controller(small):
    with pytest.raises(ValueError, match="controller"):
        Trainer(small("F2", "ess"), 0)


def test_a_group_has_one_horizon(small):
    trainer = Trainer(small("orchestrator", "mixed"), 0)
    episodes, _ = trainer.sample(0)
    drawn = {(int(p), int(h)) for p, h in zip(episodes.prompt, episodes.horizon, strict=True)}
    assert len(drawn) == trainer.environment.prompts
    assert len({h for _, h in drawn}) > 1


def test_logs_what_schedules_and_bonuses_weigh(small):
    staged = Trainer(small("F1", "staged"), 0).step(0)
    assert staged.scalars["reward_weight_verifiable"] == 1.0
    assert staged.scalars["reward_weight_preference"] == 0.0
    soft = Trainer(small("F4", "soft"), 0).step(0)
    assert soft.scalars["beta_load"] == preset("F4", "soft").fixes.constraints[0].beta0
