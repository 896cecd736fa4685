"""Every intervention in somebody else's trainer: GRPO in plain torch on a table of logits."""

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mmhealth.estimators import ess, gini, signal_log_weights
from mmhealth.interventions import (
    AdaptiveNormalisation,
    AnnealedReward,
    BucketNormalizer,
    Constraint,
    ConstraintTable,
    EntropyFloor,
    EssAdaptive,
    EssAdaptiveConfig,
    EssLearningRate,
    FrozenSubagents,
    MixedHorizons,
    NearMissReserve,
    ReliabilityConfig,
    ReliabilitySchedule,
    StagedObjectives,
    UnifiedConfig,
    VarianceConfig,
    VarianceCorrection,
    advantages_within_horizon,
    hard_penalty,
    minimum_variance_baseline,
    near_miss_side,
)

PROMPTS, GROUP = 8, 16


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors are tiny here: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Rows:
    """One batch, a row a trajectory."""

    prompt: np.ndarray
    actions: np.ndarray
    """(rows, decisions)."""
    log_weight: np.ndarray
    score_norm: np.ndarray


def mean_baseline(step, rows, reward):
    group_mean = np.bincount(rows.prompt, reward) / np.bincount(rows.prompt)
    return reward - group_mean[rows.prompt]


def no_penalty(step, log_probs):
    return 0.0


def full_rate(step, rows):
    return 1.0


def no_preparation(step):
    pass


def grpo(
    reward,
    *,
    steps=40,
    start=None,
    choices=3,
    decisions=1,
    lag=0,
    lr=0.2,
    advantage=mean_baseline,
    penalty=no_penalty,
    rate=full_rate,
    before_step=no_preparation,
):
    """Train a table of logits; yields the step, its rows, advantages, and the policy's entropy."""
    random = torch.Generator().manual_seed(0)
    shape = (PROMPTS, decisions, choices)
    logits = (torch.zeros(shape) if start is None else start.expand(shape).clone()).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=lr)
    past = deque([logits.detach().clone()], maxlen=lag + 1)
    prompt = torch.arange(PROMPTS).repeat_interleave(GROUP)
    for step in range(steps):
        before_step(step)
        behavior = past[0].log_softmax(-1)[prompt]
        drawn = torch.multinomial(behavior.exp().flatten(0, 1), 1, generator=random)
        actions = drawn.view(len(prompt), decisions, 1)
        log_probs = logits.log_softmax(-1)[prompt]
        chosen = log_probs.gather(2, actions).sum((1, 2))
        log_weight = chosen.detach() - behavior.gather(2, actions).sum((1, 2))
        score = torch.zeros_like(log_probs).scatter_(2, actions, 1) - log_probs.detach().exp()
        rows = Rows(
            prompt.numpy(),
            actions.squeeze(2).numpy(),
            log_weight.double().numpy(),
            score.flatten(1).norm(dim=1).double().numpy(),
        )
        shaped = advantage(step, rows, reward(step, rows))
        multiplied = torch.as_tensor(shaped, dtype=torch.float32)
        loss = -(log_weight.exp() * multiplied * chosen).mean() + penalty(step, log_probs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = lr * rate(step, rows)
        optimizer.step()
        past.append(logits.detach().clone())
        probs = logits.detach().softmax(-1)
        yield SimpleNamespace(
            step=step,
            rows=rows,
            advantage=shaped,
            lr=optimizer.param_groups[0]["lr"],
            probs=probs.mean((0, 1)).numpy(),
            entropy=float(-(probs * probs.log()).sum(-1).mean()),
        )


def picks(action):
    def reward(step, rows):
        return (rows.actions[:, 0] == action).astype(float)

    return reward


@pytest.mark.parametrize("held", [True, False])
def test_the_floor_holds_entropy_up_until_the_ramp_has_ended(held):
    staged, floor = StagedObjectives(80), EntropyFloor(0.7, coef=2.0)

    def penalty(step, log_probs):
        if held and staged.floor_active(step):
            return floor.penalty(log_probs).mean()
        return 0.0

    entropy = [log.entropy for log in grpo(picks(0), steps=80, penalty=penalty)]
    assert (min(entropy[:36]) > 0.6) == held
    assert entropy[79] < 0.2


@pytest.mark.parametrize("staged", [True, False])
def test_staged_rewards_train_what_is_verifiable_first_and_then_both(staged):
    schedule = StagedObjectives(60)

    def reward(step, rows):
        parts = {
            "verifiable": (rows.actions[:, 0] < 2) * 1.0,
            "preference": (rows.actions[:, 0] > 0) * 1.0,
        }
        return schedule.compose(step if staged else 59, parts)

    logs = list(grpo(reward, steps=60, lr=0.1))
    assert (logs[17].probs[0] > 0.4) == staged
    assert logs[59].probs[1] > 0.7


@pytest.mark.parametrize("agree", [True, False])
def test_a_preference_enters_when_its_raters_begin_to_agree(agree):
    schedule = ReliabilitySchedule(
        {"syntax": 0.2, "raters": 0.8},
        ReliabilityConfig(ready=0.5, ramp_steps=5, decay=0.5),
        verifiable={"syntax"},
    )
    rng = np.random.default_rng(0)

    def reward(step, rows):
        good = (rows.actions[:, 0] == 1).astype(float)
        noise = 0.1 if agree and step >= 15 else 3.0
        ratings = good[:, None] + noise * rng.normal(size=(len(good), 2))
        schedule.observe(step, "raters", ratings)
        syntax = (rows.actions[:, 0] < 2).astype(float)
        return schedule.compose(step, {"syntax": syntax, "raters": ratings.mean(1)})

    start = torch.tensor([0.5, 0.0, 0.0])
    logs = list(grpo(reward, start=start, lr=0.1, steps=50))
    if agree:
        assert 15 < schedule.introduced("raters") < 25
        assert logs[-1].probs[1] > 0.8
    else:
        assert schedule.introduced("raters") is None
        assert logs[-1].probs[1] < 0.7


NEED = 3
"""Right decisions of four that solve the sequence."""


def solved(actions):
    return ((actions == 1).sum(1) >= NEED).astype(float)


def outcome(step, rows):
    return solved(rows.actions)


@pytest.mark.parametrize("armed", [True, False])
def test_near_misses_and_an_anchor_come_with_the_alert_and_go_with_it(armed):
    control = EssAdaptive(EssAdaptiveConfig(hold=3, kl_coef=0.5, half_life=1))
    reserve = NearMissReserve(capacity=4, max_bytes=4096)
    reserve.add(0, "succeeded", {"actions": np.array([1, 1, 1, 0], np.int8)})
    log = []
    fired = None

    def advantage(step, rows, reward):
        nonlocal fired
        for row, actions in enumerate(rows.actions):
            side = near_miss_side((actions == 1).sum(), NEED)
            if side is not None:
                reserve.add(int(rows.prompt[row]), side, {"actions": actions.astype(np.int8)})
        sampled = mean_baseline(step, rows, reward)
        share = ess(signal_log_weights(rows.log_weight, sampled)) / len(sampled)
        if share < 0.2 and fired is None:
            fired = step
            control.on_alert(SimpleNamespace(rule="ess_signal", state="firing", step=step))
        elif share >= 0.25 and fired is not None:
            control.on_alert(
                SimpleNamespace(rule="ess_signal", state="resolved", step=fired, resolved_step=step)
            )
            fired = None
        injected = 0
        if armed and control.active(step):
            for prompt in np.unique(rows.prompt):
                members = np.flatnonzero(rows.prompt == prompt)
                if reward[members].any():
                    continue
                for row, item in zip(
                    members, reserve.take(int(prompt), "succeeded", 4), strict=False
                ):
                    sampled[row] = solved(item["actions"][None])[0] - reward[members].mean()
                    injected += 1
        log.append((share, control.kl_coef(step), injected, sampled))
        return sampled

    def penalty(step, log_probs):
        return control.kl_coef(step) * (log_probs.exp() * log_probs).sum(-1).mean()

    start = torch.tensor([1.5, -0.5])
    list(grpo(outcome, choices=2, decisions=4, start=start, penalty=penalty, advantage=advantage))
    first = next(step for step, (share, *_) in enumerate(log) if share < 0.2)
    assert all(kl == 0 and injected == 0 for _, kl, injected, _ in log[: first + 1])
    assert log[first + 1][1] == 0.5
    assert any(injected for *_, injected, _ in log) == armed
    for share, _, injected, used in log:
        if injected:
            assert ess(signal_log_weights(np.zeros(len(used)), used)) / len(used) > share
    recovered = [step for step, (share, *_) in enumerate(log) if step > first and share > 0.25]
    assert any(log[step][1] in {0.25, 0.125} for step in range(recovered[0], len(log)))


SOURCES = np.tile(np.repeat(["verifier", "human"], [12, 4]), PROMPTS)
LENGTHS = np.tile(np.geomspace(100, 2000, GROUP).astype(int), PROMPTS)


def loud(step, rows):
    """The human's rewards are on a scale ten times as large."""
    return (rows.actions[:, 0] == 1) * np.where(SOURCES == "human", 10.0, 1.0)


def by_source(step, rows, reward):
    out = np.empty_like(reward)
    for source in ("verifier", "human"):
        here = np.flatnonzero(source == SOURCES)
        part = Rows(rows.prompt[here], rows.actions[here], rows.log_weight[here], rows.score_norm)
        out[here] = mean_baseline(step, part, reward[here])
    return out


def contributions(log):
    """Norms of the gradients, were each token's gradient independent of the others."""
    return np.abs(log.advantage) * log.rows.score_norm * np.sqrt(LENGTHS)


def test_variance_correction_equalises_contributions():
    correction = VarianceCorrection(VarianceConfig(min_rows=0))

    def corrected(step, rows, reward):
        return correction.normalise(by_source(step, rows, reward), SOURCES, LENGTHS)

    plain = next(grpo(loud, steps=1, advantage=by_source))
    fixed = next(grpo(loud, steps=1, advantage=corrected))
    assert gini(contributions(plain)) > 0.6
    assert gini(contributions(fixed)) < 0.3
    mass = [contributions(log)[SOURCES == "human"].sum() for log in (plain, fixed)]
    shares = [m / contributions(log).sum() for m, log in zip(mass, (plain, fixed), strict=True)]
    assert shares[0] > 0.7
    assert shares[1] == pytest.approx(0.25, abs=0.05)
    assert correction.sigma("human") == pytest.approx(10 * correction.sigma("verifier"), rel=0.2)


@pytest.mark.parametrize("grouping", ["capability", "modality", None])
def test_buckets_share_alike_by_whatever_label(grouping):
    labels = {"capability": np.repeat(["code", "tools"], 64), "modality": SOURCES}
    normalizer = BucketNormalizer(decay=0.0)

    def advantage(step, rows, reward):
        plain = by_source(step, rows, reward)
        return normalizer.normalise(plain, labels[grouping]) if grouping else plain

    log = next(grpo(loud, steps=1, advantage=advantage))
    power = [np.mean(log.advantage[source == SOURCES] ** 2) for source in ("human", "verifier")]
    if grouping == "modality":
        assert power == pytest.approx([1, 1])
    else:
        assert power[0] > 50 * power[1]


@pytest.mark.parametrize("lag", [0, 4])
def test_the_learning_rate_falls_with_stale_rollouts_only(lag):
    rate = EssLearningRate(floor=0.1)
    logs = list(
        grpo(picks(1), lag=lag, steps=12, lr=0.3, rate=lambda _, rows: rate.factor(rows.log_weight))
    )
    rates = [log.lr for log in logs]
    if lag == 0:
        assert rates == [0.3] * 12
    else:
        assert min(rates) < 0.27
        log = logs[5]
        share = ess(log.rows.log_weight) / len(log.rows.log_weight)
        assert log.lr == pytest.approx(0.3 * np.sqrt(share))


def test_the_optimal_baseline_gives_a_quieter_gradient():
    def optimal(step, rows, reward):
        everyone = np.zeros(len(reward), int)
        return reward - minimum_variance_baseline(reward, rows.score_norm, everyone)

    def mean(step, rows, reward):
        return reward - reward.mean()

    start = torch.tensor([3.0, 0.0, 0.0])
    power = []
    for advantage in (mean, optimal):
        logs = grpo(picks(1), start=start, lr=0.0, steps=60, advantage=advantage)
        power.append(np.mean([np.mean((log.advantage * log.rows.score_norm) ** 2) for log in logs]))
    assert power[1] < 0.9 * power[0]


@pytest.mark.parametrize("kind", ["none", "soft", "hard"])
def test_a_soft_constraint_steers_where_a_cliff_says_nothing(kind):
    """All actions violate: the cliff costs the same everywhere, softplus shows the way down."""
    table = ConstraintTable([Constraint("load", scale=1.0, width=1.0)])

    def reward(step, rows):
        load = rows.actions[:, 0].astype(float)
        gain, distance = 0.1 * load, load + 0.5
        if kind == "soft":
            return gain + table.penalty({"load": distance})
        return gain + (hard_penalty(distance, 5.0) if kind == "hard" else 0.0)

    *_, last = grpo(reward)
    assert (last.probs[0] > 0.8) == (kind == "soft")


@pytest.mark.parametrize("beta0", [0.0, 2.0])
def test_an_annealed_bonus_leads_out_of_a_basin_and_fades(beta0):
    """Parallel work (1) pays when all four decisions are; half of it is worse than serial (0)."""
    bonus = AnnealedReward(beta0, decay_steps=10)

    def reward(step, rows):
        parallel = (rows.actions == 1).mean(1)
        task = np.select([parallel == 0, parallel == 1], [0.4, 1.0], 0.0)
        return task + bonus.reward(step, parallel)

    start = torch.tensor([1.0, 0.0])
    *_, last = grpo(reward, choices=2, decisions=4, start=start, steps=80)
    assert (last.probs[1] > 0.8) == (beta0 > 0)
    assert bonus.beta(79) < 1e-3


@pytest.mark.parametrize("freeze", [True, False])
def test_the_orchestrator_learns_over_frozen_subagents(freeze):
    torch.manual_seed(0)
    worker, orchestrator = nn.Linear(4, 3), nn.Linear(3, 2)
    frozen = FrozenSubagents(worker)
    if not freeze:
        worker.requires_grad_(True)
    weights = [worker.weight.clone(), orchestrator.weight.clone()]
    optimizer = torch.optim.Adam([*worker.parameters(), *orchestrator.parameters()], lr=0.1)
    for _ in range(5):
        task = torch.randn(32, 4)
        if freeze:
            with frozen.observing():
                seen = worker(task)
        else:
            seen = worker(task)
        log_probs = orchestrator(seen).log_softmax(-1)
        action = torch.multinomial(log_probs.detach().exp(), 1)
        won = (action[:, 0] == (task[:, 0] > 0)).float()
        loss = -((won - won.mean()) * log_probs.gather(1, action)[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(worker.weight, weights[0]) == freeze
    assert not torch.equal(orchestrator.weight, weights[1])
    if freeze:
        frozen.check()
    else:
        with pytest.raises(RuntimeError, match="trainable"):
            frozen.check()


@pytest.mark.parametrize("mixed", [True, False])
def test_horizons_are_mixed_from_the_start_and_count_alike(mixed):
    sampler = MixedHorizons((6, 10, 16, 25) if mixed else (25,), seed=1)
    horizon = np.zeros(0)

    def draw(step):
        nonlocal horizon
        horizon = sampler.sample(PROMPTS, GROUP)

    def reward(step, rows):
        return (rows.actions[:, 0] == 1) * horizon.astype(float)

    def advantage(step, rows, rewards):
        return advantages_within_horizon(rewards, horizon, rows.prompt)

    seen = set()
    for log in grpo(reward, before_step=draw, advantage=advantage, steps=5):
        seen |= set(horizon.tolist())
        for one in set(horizon.tolist()):
            assert np.mean(log.advantage[horizon == one] ** 2) == pytest.approx(1)
    assert seen == ({6, 10, 16, 25} if mixed else {25})


def test_one_layer_equalises_anchors_and_calls_for_replay():
    layer = AdaptiveNormalisation(
        UnifiedConfig(
            for_steps=2, kl_coef=2.0, variance=VarianceConfig(min_rows=0, by_length=False)
        )
    )
    verdicts = []

    def advantage(step, rows, reward):
        verdicts.append(
            layer.normalise(by_source(step, rows, reward), SOURCES, LENGTHS, rows.log_weight)
        )
        return verdicts[-1].advantage

    def penalty(step, log_probs):
        return verdicts[-1].kl_coef * (log_probs.exp() * log_probs).sum(-1).mean()

    logs = list(grpo(loud, steps=40, advantage=advantage, penalty=penalty, lr=0.3))
    plain = list(grpo(loud, steps=40, advantage=by_source, lr=0.3))
    assert verdicts[0].ess_after > verdicts[0].ess_before + 0.2
    assert not verdicts[0].active
    low = [verdict.ess_after < 0.2 for verdict in verdicts]
    first = next(step for step in range(1, 40) if low[step] and low[step - 1])
    assert [verdict.active for verdict in verdicts].index(True) == first
    assert verdicts[first].replay
    assert verdicts[first].kl_coef == 2.0
    later = [max(log.entropy for log in course[first + 3 :]) for course in (logs, plain)]
    assert later[0] > 2 * later[1]
