"""What a rollout asks and keeps does not change what comes of it."""

import pytest
import torch

from mmhealth.reference import ENVIRONMENTS, preset
from mmhealth.reference.policy import Policy
from mmhealth.reference.rollout import outcome_of, roll_out


@pytest.fixture(params=ENVIRONMENTS)
def played(request):
    """Environment, a policy with opinions, and the arguments of a rollout."""
    env = preset(request.param).environment.build(torch.Generator().manual_seed(1))
    policy = Policy(env.features, 8, env.choices, torch.Generator().manual_seed(2), env.prior)
    with torch.no_grad():
        policy.output.weight.normal_(generator=torch.Generator().manual_seed(3))
    prompt = torch.arange(12) % env.prompts
    return env, policy, {"prompt": prompt, "horizon": torch.full_like(prompt, env.horizons[0])}


def test_an_outcome_alone_is_that_of_the_rollout(played):
    env, policy, tasks = played
    streams = [torch.Generator().manual_seed(4) for _ in range(2)]
    episodes, outcome = roll_out(policy, env, **tasks, updates=0, generator=streams[0])
    alone, decisions = outcome_of(policy, env, **tasks, generator=streams[1])
    assert torch.equal(alone.success, outcome.success)
    assert all(torch.equal(alone.rewards[name], part) for name, part in outcome.rewards.items())
    assert torch.equal(streams[0].get_state(), streams[1].get_state())
    assert decisions == episodes.valid.shape[1]


def test_asking_once_a_kind_is_asking_once_a_decision(played):
    env, policy, tasks = played
    play = env.play(*tasks.values(), torch.Generator().manual_seed(5))
    while (turn := play.turn()) is not None:
        seen, allowed = turn.spread()
        asked = policy(seen[turn.valid], None if allowed is None else allowed[turn.valid])
        torch.testing.assert_close(turn.ask(policy), asked, rtol=0, atol=1e-6)
        play.act(torch.zeros(turn.valid.shape, dtype=torch.int64))
