import pytest
import torch

from mmhealth.reference.environments.modalities import Modalities, ModalitiesConfig
from mmhealth.reference.presets.modalities import EARLY, FRESH, LATE

STEPS = 120


def world(seed: int = 0, **knobs) -> Modalities:
    return ModalitiesConfig(**knobs).build(torch.Generator().manual_seed(seed))


def images_by_prompt(schedule) -> torch.Tensor:
    env = world(schedule=schedule)
    total = torch.zeros(env.prompts)
    for step in range(STEPS):
        env.advance(step, STEPS)
        total += env.image
    return total


def play(env: Modalities, prompt, actions):
    game = env.play(prompt, torch.ones_like(prompt), torch.Generator())
    turn = game.turn()
    game.act(actions)
    assert game.turn() is None
    return turn, game.outcome()


def test_the_outcome_is_what_a_plain_reading_of_the_actions_says():
    env = world()
    env.show(0.5)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, env.prompts, (500,), generator=generator)
    actions = torch.randint(0, env.choices, (500, 1), generator=generator)
    turn, outcome = play(env, prompt, actions)
    assert turn.valid.all()
    for row in range(500):
        concept = int(prompt[row])
        modality = int(env.image[concept])
        solved = int(actions[row, 0]) == int(env.right[concept])
        assert bool(outcome.success[row]) == solved
        assert float(outcome.rewards["task"][row]) == solved
        assert outcome.columns["modality"][row] == ("text", "image")[modality]
        assert torch.equal(turn.observations[row, 0], env.observations[modality, concept])
    assert 0 < int(outcome.success.sum()) < 500


@pytest.mark.parametrize("modality", [0, 1])
def test_either_modality_alone_tells_the_right_answer(modality):
    # both embeddings are one to one, so the linear rule of the concepts is linear in the features
    env = world(prompts=400)
    target = torch.nn.functional.one_hot(env.right, env.choices).float()
    shown = env.observations[modality].double()
    own = torch.linalg.lstsq(shown, target.double(), driver="gelsd").solution
    right = ((shown @ own).argmax(1) == env.right).float().mean()
    other = ((env.observations[1 - modality].double() @ own).argmax(1) == env.right).float().mean()
    assert right > 0.6
    assert other < 0.4


def test_late_and_early_show_as_many_images_and_each_concept_alike():
    expected = 0.2 * STEPS
    for schedule in (LATE, EARLY, FRESH):
        assert images_by_prompt(schedule).tolist() == [expected] * 40


def test_the_mixture_follows_the_schedule():
    env = world()
    shares = []
    for step in (0, 89, 90, 119):
        env.advance(step, STEPS)
        shares.append(float(env.image.float().mean()))
    assert shares == pytest.approx([0, 0, 0.8, 0.8])


def test_one_seed_one_world():
    assert torch.equal(world(3).observations, world(3).observations)
    assert not torch.equal(world(3).right, world(4).right)
