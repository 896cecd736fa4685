import math

import pytest
import torch

from mmhealth.reference import MajorityRule, MajorityRuleConfig


def environment(seed: int = 0, **knobs) -> MajorityRule:
    return MajorityRule(MajorityRuleConfig(**knobs), torch.Generator().manual_seed(seed))


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
    assert int(env.exception.sum()) == round(0.6 * 32)


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
    assert torch.equal(env.score(prompt, env.answers), torch.full((32,), 10))
    wrong = (env.answers + 1) % 3
    assert torch.equal(env.score(prompt, wrong), torch.zeros(32, dtype=torch.long))
    exactly = torch.where(torch.arange(10) < env.need[:, None], env.answers, wrong)
    score = env.score(prompt, exactly)
    assert torch.equal(score, env.need)
    assert env.success(prompt, score).all()
    assert not env.success(prompt, score - 1).any()


@pytest.mark.parametrize("need", [4, 5, 6])
def test_chance_success_is_binomial(need):
    env = environment(need_low=need, need_high=need)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, 32, (40_000,), generator=generator)
    actions = torch.randint(0, 3, (40_000, 10), generator=generator)
    solved = env.success(prompt, env.score(prompt, actions)).double().mean()
    expected = success_by_chance(need)
    spread = (expected * (1 - expected) / 40_000) ** 0.5
    assert abs(float(solved) - expected) < 5 * spread


def test_one_seed_one_environment():
    assert torch.equal(environment(3).observations, environment(3).observations)
    assert not torch.equal(environment(3).answers, environment(4).answers)
