import math

import pytest
import torch

from mmhealth.reference.environments.mixed_sources import (
    CAPABILITIES,
    MODALITIES,
    MixedSources,
    MixedSourcesConfig,
    Source,
)


def world(seed: int = 0, **knobs) -> MixedSources:
    return MixedSourcesConfig(**knobs).build(torch.Generator().manual_seed(seed))


def opened(env: MixedSources, rows: int, seed: int = 1):
    prompt = torch.arange(rows) % env.prompts
    return prompt, env.play(prompt, torch.ones_like(prompt), torch.Generator().manual_seed(seed))


def quiet(**scales) -> tuple[Source, ...]:
    return tuple(Source(name=name, scale=scale, noise=0.0) for name, scale in scales.items())


def test_outcome_is_that_of_a_loop_over_rows_and_tokens():
    env = world(
        max_length=400, tool_every=50, need=0.4, sources=quiet(verifier=1, human=2, implicit=4)
    )
    prompt, episodes = opened(env, 48)
    turn = episodes.turn()
    actions = torch.randint(0, 4, turn.valid.shape, generator=torch.Generator().manual_seed(2))
    guided = torch.arange(actions.numel()).reshape(actions.shape) % 3 == 0
    actions = torch.where(guided, episodes.right, actions)
    episodes.act(actions)
    assert episodes.turn() is None
    outcome = episodes.outcome()
    seen, _ = turn.spread()
    for row in range(48):
        tool, argument = [], []
        for token in range(int(turn.valid[row].sum())):
            features = seen[row, token].tolist()
            modality = features[3:5].index(1.0)
            assert MODALITIES[modality] == outcome.columns["modality"][row]
            action = int(actions[row, token])
            if token % 50 == 0:
                capability = features[:3].index(1.0)
                assert CAPABILITIES[capability] == outcome.columns["capability"][row]
                assert features[5:] == [1, 0, 0, 0, 0]
                tool.append(bool(action == env.tools[capability]))
            else:
                assert features[:3] == [0, 0, 0]
                assert features[5] == 0
                symbol = features[6:].index(0.5 if modality else 1.0)
                argument.append(bool(action == env.answers[symbol]))
        shares = sum(tool) / len(tool), sum(argument) / len(argument)
        quality = sum(shares) / 2
        source = int(env.source[prompt[row]])
        assert outcome.columns["source"][row] == env.config.sources[source].name
        assert outcome.columns["tool_calls"][row] == len(tool)
        assert outcome.columns["quality"][row] == pytest.approx(quality, abs=1e-6)
        assert outcome.rewards["task"][row] == pytest.approx((1, 2, 4)[source] * quality, abs=1e-5)
        assert bool(outcome.success[row]) == (min(shares) >= 0.4)
    assert outcome.success.any()
    assert not outcome.success.all()


def test_tokens_beyond_the_length_do_not_exist():
    env = world(max_length=300)
    _, episodes = opened(env, 32)
    turn = episodes.turn()
    assert torch.equal(turn.valid.sum(1), episodes.length)
    assert turn.spread()[0][~turn.valid].abs().sum() == 0
    outcomes = []
    for wrong in (0, 1):
        again = env.play(
            torch.arange(32) % 16, torch.ones(32).long(), torch.Generator().manual_seed(1)
        )
        again.act(torch.where(turn.valid, again.right, (again.right + wrong) % 4))
        outcomes.append(again.outcome())
    assert torch.equal(outcomes[0].rewards["task"], outcomes[1].rewards["task"])
    assert torch.equal(outcomes[0].columns["quality"], torch.ones(32))


def test_lengths_are_log_uniform():
    _, episodes = opened(world(prompts=4, choices=3, tool_every=100), 3000)
    logs = (episodes.length / 100).log() / math.log(20)
    assert int(episodes.length.min()) >= 100
    assert int(episodes.length.max()) <= 2000
    for quantile in (0.25, 0.5, 0.75):
        assert logs.quantile(quantile) == pytest.approx(quantile, abs=0.03)


def test_sources_judge_on_their_scale_with_their_noise():
    sources = (Source(name="a", scale=1.0, noise=0.1), Source(name="b", scale=5.0, noise=2.0))
    env = world(max_length=100, sources=sources, mixture=(0.5, 0.5))
    _, episodes = opened(env, 8000)
    episodes.act(episodes.right)
    outcome = episodes.outcome()
    name = outcome.columns["source"]
    for source in sources:
        rewards = outcome.rewards["task"][torch.tensor([one == source.name for one in name])]
        assert len(rewards) == 4000
        assert rewards.mean() == pytest.approx(source.scale, abs=0.1)
        assert rewards.std() == pytest.approx(source.noise, rel=0.05)


def test_mixture_changes_half_way_and_moves_few_prompts():
    env = world(mixture=(0.75, 0.25, 0.0), later_mixture=(0.5, 0.25, 0.25))
    env.advance(49, 100)
    early = env.source.clone()
    assert torch.bincount(early, minlength=3).tolist() == [12, 4, 0]
    env.advance(50, 100)
    assert torch.bincount(env.source, minlength=3).tolist() == [8, 4, 4]
    assert int((env.source != early).sum()) == 8
    env.advance(0, 100)
    assert torch.equal(env.source, early)


def test_mixture_stays_unless_told():
    env = world()
    before = env.source.clone()
    env.advance(119, 120)
    assert torch.equal(env.source, before)
    assert torch.bincount(before).tolist() == [11, 4, 1]
