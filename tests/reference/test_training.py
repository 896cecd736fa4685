import copy

import numpy as np
import pytest
import torch

from mmhealth.errors import RunError
from mmhealth.interventions import EssAdaptiveConfig
from mmhealth.reference import (
    LoopConfig,
    MajorityRuleConfig,
    RepairConfig,
    StepLog,
    TrainConfig,
    Trainer,
    train,
)
from mmhealth.reference.policy import sequence_log_prob
from mmhealth.runlog import open_run


def small() -> TrainConfig:
    environment = MajorityRuleConfig(prompts=6)
    loop = LoopConfig(
        group_size=4, eval_group_size=2, hidden=8, environment=environment, repair=RepairConfig()
    )
    return TrainConfig(loop=loop, controller=EssAdaptiveConfig(kl_coef=0.25, hold=3))


class Alarm:
    """A source of alerts that fires at one step, resolves at another, and replays on a restart."""

    rule = "ess_signal"

    def __init__(self, fires: int, resolves: int) -> None:
        self.step, self.resolves = fires, resolves
        self.state = "inactive"
        self.resolved_step: int | None = None
        self.now = 0
        self.subscribers = []

    def subscribe(self, subscriber) -> None:
        self.subscribers.append(subscriber)

    def saw(self, log: StepLog) -> None:
        self.now = log.step

    def poll(self) -> None:
        state = "inactive"
        if self.now >= self.step:
            state = "firing"
        if self.now >= self.resolves:
            state, self.resolved_step = "resolved", self.resolves
        if state != self.state:
            self.state = state
            for subscriber in self.subscribers:
                subscriber(self)


def logs_of(preset: str, **kw) -> list[StepLog]:
    alarm = Alarm(3, 6)
    logs: list[StepLog] = []

    def see(log: StepLog) -> None:
        logs.append(log)
        alarm.saw(log)

    options = {"config": small(), "record": False, "monitor": alarm, "progress": False} | kw
    train(preset, on_step=see, **options)
    return logs


def same(a, b) -> bool:
    """Equal to the last bit, through lists, tensors and dataclasses."""
    if isinstance(a, StepLog):
        return all(same(getattr(a, name), getattr(b, name)) for name in StepLog.__slots__)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("preset", ["baseline", "fix"])
def test_deterministic_for_a_seed(preset):
    first = logs_of(preset, steps=12)
    torch.manual_seed(99)
    assert same(first, logs_of(preset, steps=12))
    assert not same(first, logs_of(preset, steps=12, seed=1))


@pytest.mark.parametrize("preset", ["baseline", "fix"])
@pytest.mark.parametrize("stop", [2, 5, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(preset, stop, tmp_path):
    whole = logs_of(preset, steps=14)
    logs_of(preset, steps=stop, checkpoint_dir=tmp_path, checkpoint_every=2)
    rest = logs_of(preset, steps=14, checkpoint_dir=tmp_path, resume=True)
    first = stop // 2 * 2
    assert [log.step for log in rest] == list(range(first, 14))
    assert same(rest, whole[first:])


def test_the_fix_acts_only_while_its_alert_tells_it_to():
    baseline = logs_of("baseline", steps=14)
    fixed = logs_of("fix", steps=14)
    active = [log.step for log in fixed if log.scalars["kl_coef"] > 0]
    assert active == [4, 5, 6, 7, 8, 9]
    assert [(log.step, log.switched) for log in fixed if log.switched is not None] == [
        (4, True),
        (10, False),
    ]
    assert any(log.scalars["injected"] > 0 for log in fixed)
    for before, after in zip(baseline[:4], fixed[:4], strict=True):
        assert same(before.updates, after.updates)


def test_rows_add_up_and_injected_rows_have_ids_of_their_own():
    for log in logs_of("fix", steps=10):
        roles = dict(
            zip(log.trajectories["trajectory_id"].tolist(), log.trajectories["role"], strict=True)
        )
        for update in (0, 1):
            parts = [part for part in log.updates if part["update"][0] == update]
            ids = [i for part in parts for i in part["trajectory_id"].tolist()]
            said = [role for part in parts for role in part["role"]]
            assert sorted(ids) == sorted(roles)
            assert [roles[i] for i in ids] == said
            assert said.count("used") + said.count("injected") == 24
            assert said.count("used") + said.count("replaced") == 24
        sampled = [role != "injected" for role in log.trajectories["role"]]
        means = {
            int(g): log.trajectories["reward"][log.trajectories["group_id"] == g][
                torch.tensor(sampled)[log.trajectories["group_id"] == g]
            ].mean()
            for g in range(6)
        }
        by_id = log.trajectories["trajectory_id"]
        for part in log.updates:
            rows = part["trajectory_id"]
            assert torch.equal(by_id[rows], rows)
            group = log.trajectories["group_id"][rows].tolist()
            expected = log.trajectories["reward"][rows] - torch.stack([means[g] for g in group])
            assert torch.equal(part["advantage"], expected)


def test_logged_gradient_norms_are_those_of_the_loss():
    trainer = Trainer(small().loop, seed=0)
    for step in range(6):
        trainer.step(step)
    before = copy.deepcopy(trainer)
    columns = trainer.step(6).updates[0]
    replay = before._roll_out(before.behavior, "rollouts", 4)
    policy = before.policy.double()
    norms = []
    for row in range(24):
        policy.zero_grad()
        x = before.environment.observations[replay.prompt[row : row + 1]].double()
        log_prob = sequence_log_prob(policy(x), replay.actions[row : row + 1])
        ratio = torch.exp(log_prob - replay.log_prob[row].double())
        (-ratio * columns["advantage"][row].double() / 24).sum().backward()
        norms.append(sum(float((p.grad**2).sum()) for p in policy.parameters()) ** 0.5)
    assert columns["grad_norm"].tolist() == pytest.approx(norms, rel=1e-5)
    assert max(norms) > 0


def test_refuses_a_checkpoint_of_another_configuration(tmp_path):
    logs_of("baseline", steps=2, checkpoint_dir=tmp_path, checkpoint_every=2)
    other = small()
    other.loop.learning_rate = 0.5
    with pytest.raises(RunError, match="another loop"):
        logs_of("baseline", steps=4, checkpoint_dir=tmp_path, resume=True, config=other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "cure", "record": False}, "cure"),
        ({"preset": "baseline"}, "run_dir"),
        ({"preset": "fix", "record": False}, "alerts"),
    ],
)
def test_refuses_arguments_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        train(**options)


def test_writes_a_run_that_can_be_read(tmp_path):
    logs: list[StepLog] = []
    run_dir = tmp_path / "run"
    train("fix", run_dir=run_dir, steps=5, config=small(), progress=False, on_step=logs.append)
    run = open_run(run_dir)
    assert run.about["loss_ratio"] == "sequence"
    assert run.about["nominal_batch"] == 24
    assert run.about["config"]["preset"] == "fix"
    assert same(logs, logs_of("fix", steps=5, monitor=Alarm(99, 99)))
    for log in logs:
        data = run.step_data(log.step)
        assert data is not None
        assert data.complete
        norms = np.concatenate([part["grad_norm"].numpy() for part in log.updates])
        assert data.updates["grad_norm"].to_list() == norms.tolist()
        assert data.trajectories["score"].to_list() == log.trajectories["score"].tolist()
    assert run.evaluations["successes"].to_list() == [log.successes for log in logs]
    horizon = small().loop.environment.decisions
    assert run.evaluations["train_horizons"].to_list() == [[horizon]] * 5
    assert run.evaluations["eval_horizon"].to_list() == [horizon] * 5
