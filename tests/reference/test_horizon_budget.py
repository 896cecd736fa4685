import pytest
import torch

from mmhealth.reference.environments.horizon_budget import (
    CHECKPOINT,
    EXECUTE,
    PLAN,
    WAIT,
    HorizonBudgetConfig,
)

HORIZONS = (6, 10, 16, 25)
UNITS = dict(zip(HORIZONS, (6, 8, 12, 17), strict=True))


def world(**knobs):
    return HorizonBudgetConfig(**knobs).build(torch.Generator())


def play(env, horizon, operation, seed: int = 0):
    """Turns and outcome; ``operation`` (rows, turns) is what is chosen, dead or alive."""
    game = env.play(torch.zeros_like(horizon), horizon, torch.Generator().manual_seed(seed))
    turns = []
    while (turn := game.turn()) is not None:
        game.act(operation[:, len(turns)][:, None])
        turns.append(turn)
    return turns, game.outcome()


def plain(env, horizon: int, operations, chances):
    """One episode again, in plain Python: (units done, level, kept, turns played)."""
    done = kept = level = played = 0
    for operation, chance in zip(operations, chances, strict=True):
        if played == horizon or done == UNITS[horizon]:
            break
        played += 1
        if operation == EXECUTE:
            done = kept if chance < env.config.failure[level] else done + 1
        elif operation == PLAN:
            level = min(level + 1, 4)
        elif operation == CHECKPOINT:
            kept = done
    return done, level, kept, played


def test_episodes_are_what_plain_python_makes_of_the_same_operations():
    env = world()
    rows = 400
    generator = torch.Generator().manual_seed(3)
    horizon = torch.tensor(HORIZONS).repeat(rows // 4)
    weights = torch.tensor([0.85, 0.05, 0.07, 0.03])
    operation = torch.multinomial(weights, rows * 25, True, generator=generator).reshape(rows, 25)
    turns, outcome = play(env, horizon, operation, seed=5)
    draws = torch.Generator().manual_seed(5)
    chances = torch.stack([torch.rand(rows, generator=draws) for _ in turns], 1)
    played = torch.cat([turn.valid for turn in turns], 1).sum(1)
    for row in range(rows):
        budget = int(horizon[row])
        done, level, kept, length = plain(
            env, budget, operation[row, : len(turns)].tolist(), chances[row].tolist()
        )
        solved = done == UNITS[budget]
        assert int(outcome.score[row]) == done
        assert int(outcome.need[row]) == UNITS[budget]
        assert bool(outcome.success[row]) == solved
        assert float(outcome.rewards["task"][row]) == pytest.approx(
            solved + 0.3 * done / UNITS[budget]
        )
        assert int(outcome.columns["plan_level"][row]) == level
        assert int(outcome.columns["checkpointed"][row]) == kept
        assert int(played[row]) == length
    assert 0 < int(outcome.success.sum()) < rows
    assert bool(((outcome.score < outcome.need) & (played == horizon)).any())


def test_an_episode_that_has_ended_stays_ended():
    env = world(failure=(0.0,) * 5)
    horizon = torch.tensor([6, 25])
    turns, outcome = play(env, horizon, torch.full((2, 25), EXECUTE))
    assert len(turns) == 17
    alive = [turn.valid[:, 0].tolist() for turn in turns]
    assert alive == [[True, True]] * 6 + [[False, True]] * 11
    assert not turns[10].observations[0].any()
    assert outcome.score.tolist() == [6, 17]
    assert outcome.success.all()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_a_budget_of_turns_ends_what_never_finishes(horizon):
    turns, outcome = play(world(), torch.tensor([horizon]), torch.full((1, 25), WAIT))
    assert len(turns) == horizon
    assert outcome.rewards["task"].tolist() == [0.0]
    assert all(turn.strategic and turn.observations.shape == (1, 1, 13) for turn in turns)


def test_the_shortest_budget_has_no_turn_to_spare():
    # every turn must execute and none may fail: nothing succeeds more often than 0.8 ** 6
    rows = 40_000
    always = torch.full((rows, 25), EXECUTE)
    _, outcome = play(world(), torch.full((rows,), 6), always)
    optimum = 0.8**6
    spread = (optimum * (1 - optimum) / rows) ** 0.5
    assert abs(float(outcome.success.float().mean()) - optimum) < 5 * spread
    for turn in range(6):
        for other in (PLAN, CHECKPOINT, WAIT):
            detour = always[:200].clone()
            detour[:, turn] = other
            assert not play(world(), torch.full((200,), 6), detour)[1].success.any()


def test_a_failure_costs_what_no_checkpoint_keeps():
    env = world(failure=(1.0, 1.0, 0.0, 0.0, 0.0))
    operation = torch.tensor(
        [[PLAN, PLAN, EXECUTE, EXECUTE, CHECKPOINT, EXECUTE, EXECUTE, WAIT, WAIT, WAIT]]
    )
    _, outcome = play(env, torch.tensor([10]), operation)
    assert (int(outcome.score), int(outcome.columns["checkpointed"])) == (4, 2)
    unplanned = torch.tensor([[PLAN, *[EXECUTE] * 9]])
    assert int(play(env, torch.tensor([10]), unplanned)[1].score) == 0


def test_an_unknown_budget_is_refused():
    with pytest.raises(ValueError, match="horizon 7 is not one of"):
        world().play(torch.zeros(1), torch.tensor([7]), torch.Generator())
