import math

import pytest
import torch

from mmhealth.reference.environments.majority_rule import MajorityRule, MajorityRuleConfig


def environment(seed: int = 0, **knobs) -> MajorityRule:
    return MajorityRule(MajorityRuleConfig(**knobs), torch.Generator().manual_seed(seed))


def played(env: MajorityRule, prompt, actions):
    play = env.play(prompt, torch.ones(len(prompt)), torch.Generator())
    turn = play.turn()
    assert torch.equal(turn.spread()[0], env.observations[prompt])
    play.act(actions)
    assert play.turn() is None
    return play.outcome()


def success_by_chance(need: int, decisions: int = 10, choices: int = 3) -> float:
    p = 1 / choices
    return sum(
        math.comb(decisions, right) * p**right * (1 - p) ** (decisions - right)
        for right in range(need, decisions + 1)
    )


def test_shapes_and_slots():
    env = environment()
    assert env.observations.shape == (32, 10, 6 + 12 + 1 + 10)
    assert torch.equal(env.observations[:, :, -10:], torch.eye(10).expand(32, -1, -1))
    assert env.answers.min() >= 0
    assert env.answers.max() <= 2
    assert set(env.need.tolist()) == {4, 5, 6}
    assert int(env.exception.sum()) == round(0.4 * 32)


def test_a_linear_rule_answers_all_but_the_exceptions():
    env = environment(prompts=400)
    shared = env.observations[:, 0, :6]
    for slot in range(3):
        # argmax of a linear map: the rule's regions are cones, so scaled features keep the answer,
        # and a least-squares classifier recovers most answers of rule prompts, few of exceptions
        rule = ~env.exception
        target = torch.nn.functional.one_hot(env.answers[:, slot], 3).float()
        solution = torch.linalg.lstsq(shared[rule], target[rule]).solution
        right = (shared @ solution).argmax(1) == env.answers[:, slot]
        assert right[rule].float().mean() > 0.7
        assert right[env.exception].float().mean() < 0.3


def test_success_of_right_wrong_and_borderline_episodes():
    env = environment()
    prompt = torch.arange(32)
    assert torch.equal(played(env, prompt, env.answers).score, torch.full((32,), 10.0))
    wrong = (env.answers + 1) % 3
    assert not played(env, prompt, wrong).score.any()
    exactly = torch.where(torch.arange(10) < env.need[:, None], env.answers, wrong)
    outcome = played(env, prompt, exactly)
    assert torch.equal(outcome.score, env.need.float())
    assert outcome.success.all()
    assert torch.equal(outcome.rewards["task"], torch.ones(32))
    short = torch.where(torch.arange(10) < env.need[:, None] - 1, env.answers, wrong)
    assert not played(env, prompt, short).success.any()


@pytest.mark.parametrize("need", [4, 5, 6])
def test_chance_success_is_binomial(need):
    env = environment(need_low=need, need_high=need)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, 32, (40_000,), generator=generator)
    actions = torch.randint(0, 3, (40_000, 10), generator=generator)
    solved = played(env, prompt, actions).success.double().mean()
    expected = success_by_chance(need)
    spread = (expected * (1 - expected) / 40_000) ** 0.5
    assert abs(float(solved) - expected) < 5 * spread


def test_one_seed_one_environment():
    assert torch.equal(environment(3).observations, environment(3).observations)
    assert not torch.equal(environment(3).answers, environment(4).answers)
