import math
from collections import Counter

import pytest
import torch

from mmhealth.reference.environments.orchestrator import Orchestrator, OrchestratorConfig
from mmhealth.reference.environments.orchestrator.layout import PLAN, REFUSE
from mmhealth.reference.presets import orchestrator as preset

SHORT = {"length": (10, 60)}
HORIZONS = (6, 10, 16, 25)


def world(seed: int = 0, **knobs) -> Orchestrator:
    return OrchestratorConfig(**knobs).build(torch.Generator().manual_seed(seed))


def tasks(env: Orchestrator, each: int = 8):
    """Every prompt ``each`` times, at all horizons in turn."""
    prompt = torch.arange(env.prompts).repeat_interleave(each)
    return prompt, torch.tensor(HORIZONS)[torch.arange(len(prompt)) % 4]


def guess(turn, number: int, env: Orchestrator, prompt, generator) -> torch.Tensor:
    """Random choices, right more often than not where there is a right one."""
    rows, decisions = turn.valid.shape
    weights = torch.ones(rows, decisions, 6)
    _, allowed = turn.spread()
    if allowed is not None:
        weights = allowed.float()
    else:
        weights[:, :, REFUSE] = 0.05
    drawn = torch.multinomial(weights.reshape(-1, 6), 1, generator=generator)
    actions = drawn.reshape(rows, decisions)
    right = torch.rand(rows, 1, generator=generator) < 0.8
    if number == 0:
        actions = torch.where(right, env.tool[prompt][:, None], actions)
    if number == 1:
        slots = env.config.slots
        known = torch.cat([env.syntax.expand(rows, -1), env.answers[prompt]], 1)
        actions[:, : 2 * slots] = torch.where(right, known, actions[:, : 2 * slots])
    return actions


def play(env: Orchestrator, prompt, horizon, seed: int = 1, choose=guess):
    """The episodes, all turns, all actions, and the outcome."""
    generator = torch.Generator().manual_seed(seed)
    episode = env.play(prompt, horizon, generator)
    turns, actions = [], []
    while (turn := episode.turn()) is not None:
        turns.append(turn)
        actions.append(choose(turn, len(turns) - 1, env, prompt, generator))
        episode.act(actions[-1])
    return episode, turns, actions, episode.outcome()


def work_by_hand(env: Orchestrator, orders, row: int, prompt: int, budget: int, given: list[int]):
    """Subtasks done, whether refused, widths and distances, from the chance that was drawn."""
    config, limit = env.config, float(env.limit[prompt])
    todo = max(1, round(float(env.pace[prompt]) * budget))
    done, age, refused, widths, distances = 0, 0, False, [], []
    for now, order in enumerate(given[:budget]):
        if done >= todo or refused:
            break
        widths.append(0)
        distances.append(math.nan)
        if order == REFUSE:
            refused = True
        elif order == PLAN:
            age = 0
        else:
            widths[-1] = width = order + 1
            load = width * float(orders._unit[row, now]) * float(orders._surprise[row, now])
            distances[-1] = load - limit
            chance = config.finish * config.stale ** max(0, age - config.plan_lasts)
            if load <= limit:
                lucky = [float(orders._luck[row, now, agent]) < chance for agent in range(width)]
                done = min(todo, done + sum(lucky))
            age += 1
    return done, todo, refused, widths, distances


def test_the_outcome_is_what_a_plain_reading_of_the_actions_says():
    env = world(**SHORT, source_noise=(0.0, 0.0, 0.0))
    config = env.config
    prompt, horizon = tasks(env, each=16)
    episode, _, actions, outcome = play(env, prompt, horizon)
    solved = refusals = 0
    for row, p in enumerate(prompt.tolist()):
        tool, call = int(actions[0][row, 0]), actions[1][row].tolist()
        given = [int(order[row, 0]) for order in actions[2:]]
        done, todo, refused, widths, distances = work_by_hand(
            env, episode._orders, row, p, int(horizon[row]) - 2, given
        )
        syntax = sum(a == b for a, b in zip(call[:5], env.syntax.tolist(), strict=True))
        answers = sum(a == b for a, b in zip(call[5:10], env.answers[p].tolist(), strict=True))
        shown = episode._call._symbol[row].tolist()[: int(env.length[p])]
        spelled = [call[10 + i] == int(env.code[symbol]) for i, symbol in enumerate(shown)]
        parses, right, need = syntax >= 4, tool == int(env.tool[p]), int(env.need[p])
        success = parses and right and answers >= need and done >= todo
        assert bool(outcome.success[row]) == success
        assert (float(outcome.score[row]) >= need) == success
        verifiable = 0.3 * syntax / 5 + 0.3 * min(1.0, 2 * sum(spelled) / len(spelled))
        verifiable += 0.4 * (0.3 * done / todo + 0.7 * (done >= todo))
        assert float(outcome.rewards["verifiable"][row]) == pytest.approx(verifiable, abs=1e-5)
        quality = right * (0.4 + 0.6 * (answers >= need)) if parses else 0.5 * (tool == 0)
        scale = config.source_scales[int(env.source[p])]
        assert float(outcome.rewards["preference"][row]) == pytest.approx(scale * quality, abs=1e-5)
        assert outcome.columns["subagents"][row] == sum(widths)
        assert outcome.columns["serial"][row] == (max(widths, default=0) <= 1)
        assert outcome.columns["refused"][row] == refused
        logged = outcome.distances["load"][row, 2 : 2 + len(distances)].tolist()
        assert logged == pytest.approx(distances, abs=1e-5, nan_ok=True)
        solved += success
        refusals += refused
    assert solved > 10
    assert refusals > 10


def test_a_score_below_need_counts_every_missing_requirement():
    env = world(**SHORT)
    prompt, horizon = tasks(env)
    _, _, _, outcome = play(env, prompt, horizon)
    columns = outcome.columns
    missing = sum((~columns[name]).long() for name in ("parses", "tool_right", "finished"))
    short = outcome.need - outcome.score
    assert bool((short[missing > 0] >= missing[missing > 0]).all())
    assert torch.equal(outcome.score[missing == 0], columns["answers"][missing == 0].float())


def test_nobody_acts_beyond_the_budget_or_after_the_end():
    env = world(**SHORT)
    prompt, horizon = tasks(env)
    _, turns, actions, outcome = play(env, prompt, horizon)
    played = torch.stack([turn.valid.any(1) for turn in turns], 1)
    assert bool((played.sum(1) <= horizon).all())
    assert bool((played.sum(1) == horizon).any())
    assert [turn.strategic for turn in turns[:3]] == [True, False, True]
    still = ~outcome.columns["finished"] & ~outcome.columns["refused"]
    assert torch.equal(played.sum(1)[still], horizon[still])
    for now, (turn, order) in enumerate(zip(turns[2:], actions[2:], strict=True), 2):
        refused = turn.valid[:, 0] & (order[:, 0] == REFUSE)
        assert not bool(played[refused, now + 1 :].any())
        assert not bool(turn.spread()[0][~turn.valid].any())


def test_what_goes_beyond_the_limit_is_cut_off():
    env = world(**SHORT, load_noise=0.0, unit_load=(1.9, 2.0), limit=(3.0, 3.0))
    prompt, horizon = tasks(env)

    def all_at_once(turn, number, *_):
        return torch.full(turn.valid.shape, 3 if number > 1 else 0)

    _, _, _, outcome = play(env, prompt, horizon, choose=all_at_once)
    assert bool((outcome.distances["load"][:, 2:6] > 0).all())
    assert not bool(outcome.columns["finished"].any())
    assert not bool(outcome.columns["serial"].any())
    assert outcome.bonuses["load"].sum(1).tolist() == pytest.approx([1.0] * len(prompt))


@pytest.mark.parametrize(("horizon", "planner_wins"), [(6, False), (25, True)])
def test_planning_pays_on_long_budgets_only(horizon, planner_wins):
    env = world(**SHORT, load_noise=0.0, unit_load=(1.0, 1.0), limit=(4.0, 4.0))
    prompt = torch.arange(env.prompts).repeat_interleave(16)
    budget = torch.full_like(prompt, horizon)

    def rate(every: int) -> float:
        def work(turn, number, *_):
            plans = number > 1 and (number - 1) % every == 0
            return torch.full(turn.valid.shape, PLAN if plans else 3 if number > 1 else 0)

        return float(play(env, prompt, budget, choose=work)[3].columns["finished"].float().mean())

    assert (rate(4) > rate(100)) == planner_wins


def test_prompts_share_rules_and_shares_are_exact():
    env = world()
    for family in range(5):
        first, second, odd = torch.arange(3 * family, 3 * family + 3).tolist()
        assert torch.equal(env.answers[first], env.answers[second])
        assert not bool((env.answers[first] == env.answers[odd]).any())
        assert env.exception[[first, second, odd]].tolist() == [False, False, True]
        assert len(set(env.tool[[first, second, odd]].tolist())) == 1
    assert int((env.tool == 0).sum()) == 6
    labels = env.labels(torch.arange(env.prompts))
    assert Counter(labels["source"]) == {"verifier": 10, "human": 3, "implicit": 2}
    assert set(Counter(labels["modality"]).values()) == {7, 8}
    assert set(labels["capability"]) == {"reasoning", "coding", "agent"}
    assert len(set(env.limit.tolist())) == len(set(env.length.tolist())) == env.prompts


def test_trajectories_have_100_to_2000_tokens():
    env = world()
    assert (int(env.length.min()), int(env.length.max())) == (100, 1960)
    _, turns, _, _ = play(env, torch.arange(env.prompts), torch.full((env.prompts,), 25))
    tokens = sum(turn.valid.sum(1) for turn in turns)
    assert int(tokens.min()) >= 100
    assert int(tokens.max()) <= 2000


def test_some_ratings_of_people_are_late_and_raters_are_unsure_of_what_does_not_parse():
    env = world(**SHORT)
    prompt = torch.arange(env.prompts).repeat_interleave(200)
    _, _, _, outcome = play(env, prompt, torch.full_like(prompt, 6))
    delay, source = outcome.delay["preference"], env.source[prompt]
    assert not bool(delay[source == 0].any())
    assert set(delay.tolist()) == {0, 3}
    assert float((delay[source > 0] > 0).float().mean()) == pytest.approx(0.1, abs=0.04)
    confidence, parses = outcome.confidence["preference"], outcome.columns["parses"]
    assert float(confidence[parses].min()) > float(confidence[~parses].max())
    ratings = outcome.ratings["preference"]
    assert torch.equal(ratings.mean(1), outcome.rewards["preference"])
    spread = [float(ratings[source == kind].diff().std()) for kind in range(3)]
    assert spread[0] < spread[1] < spread[2]


def test_one_seed_one_world_and_one_course():
    prompt, horizon = tasks(world(**SHORT))
    first, second = (play(world(3, **SHORT), prompt, horizon)[3] for _ in range(2))
    assert torch.equal(first.rewards["preference"], second.rewards["preference"])
    assert not torch.equal(world(3).answers, world(4).answers)


def test_every_fix_has_a_name_of_its_own():
    assert list(preset.fixes()) == ["staged", "ess", "variance", "soft", "mixed", "unified"]
    assert preset.baseline().steps == 120
