import pytest
import torch

from mmhealth.reference.environments.tool_syntax import PROSE, ToolSyntax, ToolSyntaxConfig

ROWS = 600


def world(seed: int = 0, **knobs) -> ToolSyntax:
    return ToolSyntaxConfig(**knobs).build(torch.Generator().manual_seed(seed))


def episodes(env: ToolSyntax, seed: int = 1, *, wrong: float = 0.3):
    """Prompts, random tools, and calls in which about a share ``wrong`` of the symbols is off."""
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randint(0, env.prompts, (ROWS,), generator=generator)
    tool = torch.randint(0, env.config.tools, (ROWS, 1), generator=generator)
    off = torch.rand(ROWS, env.config.slots, generator=generator) < wrong
    symbols = (env.syntax[tool[:, 0]] + off.long()) % env.config.symbols
    return prompt, tool, symbols


def play(env: ToolSyntax, prompt, tool, symbols, seed: int = 2):
    game = env.play(prompt, torch.full_like(prompt, 2), torch.Generator().manual_seed(seed))
    turns = []
    for actions in (tool, symbols):
        turns.append(game.turn())
        game.act(actions)
    assert game.turn() is None
    return turns, game.outcome()


def test_the_outcome_is_what_a_plain_reading_of_the_actions_says():
    env = world(noise=0.0, surface_noise=0.0)
    config = env.config
    prompt, tool, symbols = episodes(env)
    _, outcome = play(env, prompt, tool, symbols)
    seen = set()
    for row in range(ROWS):
        chosen, asked = int(tool[row, 0]), int(env.right_tool[prompt[row]])
        correct = sum(
            int(symbols[row, slot]) == int(env.syntax[chosen, slot]) for slot in range(config.slots)
        )
        parses = correct >= config.need
        if parses:
            opinion = 1.0 if chosen == asked else 0.0
        else:
            opinion = config.surface if chosen == PROSE else 0.0
        assert bool(outcome.success[row]) == (parses and chosen == asked)
        assert float(outcome.rewards["verifiable"][row]) == pytest.approx(correct / config.slots)
        assert outcome.ratings["preference"][row].tolist() == pytest.approx([opinion] * 2)
        assert float(outcome.rewards["preference"][row]) == pytest.approx(opinion)
        sure = config.confidence if parses else config.surface_confidence
        assert float(outcome.confidence["preference"][row]) == pytest.approx(sure)
        assert bool(outcome.columns["parses"][row]) == parses
        assert int(outcome.columns["tool_calls"][row]) == int(chosen != PROSE)
        assert outcome.columns["capability"][row] == ("prose" if asked == PROSE else "tool")
        seen.add((parses, chosen == asked, chosen == PROSE))
    assert len(seen) == 8


def test_raters_agree_less_where_the_call_does_not_parse():
    env = world()
    prompt, tool, symbols = episodes(env)
    _, outcome = play(env, prompt, tool, symbols)
    ratings, parses = outcome.ratings["preference"], outcome.columns["parses"]
    assert torch.allclose(outcome.rewards["preference"], ratings.mean(1))
    apart = (ratings[:, 0] - ratings[:, 1]) / 2**0.5
    assert float(apart[parses].std()) == pytest.approx(env.config.noise, rel=0.15)
    assert float(apart[~parses].std()) == pytest.approx(env.config.surface_noise, rel=0.15)
    assert outcome.delay == {}


def test_turns_show_the_context_first_and_the_chosen_tool_afterwards():
    env = world()
    config = env.config
    prompt, tool, symbols = episodes(env)
    (choose, spell), _ = play(env, prompt, tool, symbols)
    assert choose.strategic
    assert not spell.strategic
    assert choose.valid.shape == (ROWS, 1)
    assert spell.valid.shape == (ROWS, config.slots)
    assert choose.valid.all()
    assert spell.valid.all()
    for row in (0, 7, 99):
        first = torch.zeros(env.features)
        first[prompt[row]] = 1
        assert torch.equal(choose.observations[row, 0], first)
        for slot in range(config.slots):
            then = torch.zeros(env.features)
            then[config.contexts + int(tool[row, 0])] = 1
            then[config.contexts + config.tools + slot] = 1
            then[-1] = 1
            assert torch.equal(spell.observations[row, slot], then)
    assert choose.allowed.shape == (ROWS, 1, env.choices)
    assert choose.allowed.sum(-1).unique().tolist() == [config.tools]
    assert spell.allowed.sum(-1).unique().tolist() == [config.symbols]
    assert spell.allowed[..., : config.symbols].all()


def test_more_symbols_than_tools():
    env = world(symbols=9)
    (choose, spell), _ = play(env, *episodes(env))
    assert env.choices == 9
    assert choose.allowed[0, 0].tolist() == [True] * 6 + [False] * 3
    assert spell.allowed.all()


@pytest.mark.parametrize("seed", range(5))
def test_contexts_and_syntax_of_a_run(seed):
    env = world(seed)
    config = env.config
    assert env.right_tool[: config.prose_contexts].unique().tolist() == [PROSE]
    assert env.right_tool[config.prose_contexts :].min() > PROSE
    assert env.right_tool.max() < config.tools
    shared = env.syntax[:, config.own_slots :]
    assert torch.equal(shared, shared[:1].expand_as(shared))
    assert env.syntax.min() >= 0
    assert env.syntax.max() < config.symbols
    assert torch.equal(env.syntax, world(seed).syntax)


def test_a_share_of_the_ratings_arrives_late():
    env = world(late_share=0.25, late_steps=7)
    _, outcome = play(env, *episodes(env))
    delay = outcome.delay["preference"]
    assert delay.unique().tolist() == [0, 7]
    assert float((delay > 0).float().mean()) == pytest.approx(0.25, abs=0.06)
