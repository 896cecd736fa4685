import math
from dataclasses import replace

import pytest
import torch

from mmhealth.reference.environments.width_limits import WidthLimitsConfig
from mmhealth.reference.policy import Policy
from mmhealth.reference.presets import width_limits
from mmhealth.reference.rewards import RewardComposer
from mmhealth.reference.rollout import roll_out


def played(widths, *, seed=0, **knobs):
    """Episodes with the given widths (rows, turns), and all that was seen of them."""
    config = WidthLimitsConfig(prompts=len(widths), **knobs)
    world = config.build(torch.Generator())
    prompt = torch.arange(len(widths))
    episode = world.play(
        prompt, torch.full_like(prompt, config.turns), torch.Generator().manual_seed(seed)
    )
    work, turns = episode.subtasks.clone(), []
    while (turn := episode.turn()) is not None:
        before = episode.remaining.clone(), episode.left.clone()
        actions = widths[:, len(turns), None]
        episode.act(actions)
        turns.append((turn, actions[:, 0], *before, episode.remaining.clone()))
    return world, work, turns, episode.outcome()


def random_widths(rows=40, turns=8, seed=1):
    return torch.randint(0, 7, (rows, turns), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "knobs",
    [{}, {"constraint": "latency", "work_high": 0.3, "reliability": 0.7, "pool": 1.8}],
    ids=["load", "latency"],
)
def test_outcome_is_that_of_a_loop_over_rows(knobs):
    knobs = {"jitter": 0.0, **knobs}
    world, work, turns, outcome = played(random_widths(), **knobs)
    name = world.config.constraint
    for row in range(40):
        started = calls = needless = 0
        refused, alive = False, True
        for number, (turn, actions, remaining, left, after) in enumerate(turns):
            distance = outcome.distances[name][row, number].item()
            reward = outcome.rewards["task"][row, number].item()
            bonus = outcome.bonuses[name][row, number].item()
            assert bool(turn.valid[row, 0]) == alive
            width = min(int(actions[row]), left[row].item()) if alive else 0
            if width == 0:
                assert math.isnan(distance)
                assert reward == bonus == 0.0
                assert after[row] == remaining[row]
                refused |= alive and int(actions[row]) == 0
                alive = False
                continue
            unit = turn.observations[row, 0, 1].item()
            to_do = remaining[row].item()
            used = unit * width if name == "load" else unit * to_do / width
            assert distance == pytest.approx(used - world.limit[row].item(), abs=1e-4)
            done = to_do - after[row].item()
            assert 0 <= done <= min(width, to_do)
            solved = after[row] == 0
            assert reward == pytest.approx(0.3 * done / work[row].item() + float(solved), abs=1e-5)
            well = width >= 2 if name == "load" else width <= to_do
            assert bonus == pytest.approx(well / 8)
            started, calls = started + width, calls + 1
            needless += max(0, width - to_do)
            alive = not solved
        assert outcome.success[row] == (turns[-1][-1][row] == 0)
        assert outcome.columns["subagents"][row] == started
        assert outcome.columns["needless"][row] == needless
        assert outcome.columns["tool_calls"][row] == calls
        assert outcome.columns["refused"][row] == refused
        if "pool" in knobs:
            assert started <= round(1.8 * work[row].item())


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_reward_of_a_turn_is_that_of_its_own_violation(soft):
    config = width_limits.baseline()
    fix = width_limits.fixes()["soft"]
    constraint = fix.constraints[0]
    composer = RewardComposer(replace(config, fixes=fix) if soft else config)
    _, _, turns, outcome = played(random_widths())
    composed = composer.compose(30, outcome, outcome.rewards)
    for row in range(40):
        for number in range(len(turns)):
            distance = outcome.distances["load"][row, number].item()
            expected = outcome.rewards["task"][row, number].item()
            if soft and not math.isnan(distance):
                bend = (distance + constraint.margin) / constraint.width
                expected -= constraint.scale * math.log1p(math.exp(bend))
                beta = constraint.beta0 * math.exp(-30 / constraint.decay_steps)
                expected += beta * outcome.bonuses["load"][row, number].item()
            elif distance > 0:
                expected -= config.loop.violation_cost
            assert composed[row, number].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_refusing_ends_an_episode_safely():
    _, _, turns, outcome = played(torch.zeros(8, 8, dtype=torch.long))
    assert len(turns) == 1
    assert not outcome.success.any()
    assert outcome.columns["refused"].all()
    assert not (outcome.distances["load"] > 0).any()


def test_sub_agents_finish_as_often_as_they_are_reliable():
    _, _, turns, _ = played(torch.full((4000, 8), 2), reliability=0.92)
    remaining, after = turns[0][2], turns[0][4]
    enough = remaining >= 2
    assert (remaining - after)[enough].mean() / 2 == pytest.approx(0.92, abs=0.01)


def test_serial_is_always_under_the_load_limit_but_rarely_done_in_time():
    _, _, _, outcome = played(torch.ones(4000, 8, dtype=torch.long))
    distances = outcome.distances["load"]
    assert not (distances > 0).any()
    assert 0.02 < outcome.success.float().mean() < 0.25


def test_greatest_width_keeps_latency_and_empties_the_pool():
    environment = width_limits.needless_baseline().environment
    knobs = {name: getattr(environment, name) for name in environment.__slots__}
    knobs.pop("prompts")
    _, _, _, wide = played(torch.full((4000, 8), 6), **knobs)
    assert (wide.distances["latency"] > 0).any(1).float().mean() < 0.02
    assert wide.columns["needless"].float().mean() > 1.5
    assert wide.success.float().mean() < 0.8


def test_jitter_is_log_normal():
    widths = torch.ones(5000, 8, dtype=torch.long)
    world, _, turns, outcome = played(widths, jitter=0.1)
    unit = turns[0][0].observations[:, 0, 1]
    jitter = ((outcome.distances["load"][:, 0] + world.limit) / unit).log()
    assert jitter.mean() == pytest.approx(0, abs=0.006)
    assert jitter.std() == pytest.approx(0.1, abs=0.005)


def test_rolls_out_for_as_many_turns_as_the_horizon():
    world = WidthLimitsConfig().build(torch.Generator())
    policy = Policy(world.features, 8, world.choices, torch.Generator().manual_seed(0), world.prior)
    prompt = torch.arange(32)
    episodes, _ = roll_out(
        policy,
        world,
        prompt=prompt,
        horizon=torch.where(prompt < 16, 2, 5),
        updates=0,
        generator=torch.Generator().manual_seed(0),
    )
    assert episodes.valid.shape == (32, 5)
    assert not episodes.valid[:16, 2:].any()
    assert episodes.observations[~episodes.valid].abs().sum() == 0
