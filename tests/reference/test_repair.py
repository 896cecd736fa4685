import pytest
import torch

from mmhealth.interventions import NearMissReserve
from mmhealth.reference import MajorityRule, MajorityRuleConfig, RepairConfig
from mmhealth.reference.batch import assemble, describe
from mmhealth.reference.repair import remember, repair
from mmhealth.reference.rollout import Episodes, concatenate


@pytest.fixture
def environment() -> MajorityRule:
    config = MajorityRuleConfig(prompts=3, need_low=5, need_high=5)
    return MajorityRule(config, torch.Generator().manual_seed(0))


def episodes(environment: MajorityRule, prompt: int, scores: list[int]) -> Episodes:
    """Episodes of a prompt with these scores, sampled by the policy of update 4."""
    answers = environment.answers[prompt]
    right = torch.arange(10) < torch.tensor(scores)[:, None]
    rows = len(scores)
    score = torch.tensor(scores)
    return Episodes(
        prompt=torch.full((rows,), prompt),
        actions=torch.where(right, answers, (answers + 1) % 3),
        log_prob=torch.full((rows,), -8.0),
        sampled_at=torch.full((rows,), 4),
        score=score,
        success=score >= 5,
        reward=(score >= 5).float(),
        entropy=torch.full((rows,), 0.5),
    )


def batch(environment: MajorityRule) -> Episodes:
    """Prompt 0 fails, prompt 1 is mixed, prompt 2 is solved."""
    parts = [[1, 2, 4, 0], [2, 5, 6, 9], [8, 9, 10, 7]]
    return concatenate([episodes(environment, k, scores) for k, scores in enumerate(parts)])


def filled(environment: MajorityRule) -> NearMissReserve:
    reserve = NearMissReserve(8)
    for prompt in range(3):
        past = episodes(environment, prompt, [3, 5, 6, 4, 9, 1])
        remember(reserve, past, environment, RepairConfig())
    return reserve


def test_only_near_misses_are_remembered(environment):
    reserve = filled(environment)
    assert len(reserve) == 3 * 4
    assert [int(got["score"]) for got in reserve.take(0, "succeeded", 9)] == [6, 5]
    assert [int(got["score"]) for got in reserve.take(0, "failed", 9)] == [4, 3]


def test_a_failed_group_gets_narrow_successes(environment):
    swapped, near = repair(
        batch(environment), filled(environment), environment, RepairConfig(swap=3)
    )
    assert swapped.nonzero().flatten().tolist() == [0, 1]
    assert near is not None
    assert near.prompt.tolist() == [0, 0]
    assert near.score.tolist() == [6, 5]
    assert near.reward.tolist() == [1.0, 1.0]
    assert torch.equal(environment.score(near.prompt, near.actions), near.score)
    assert near.log_prob.tolist() == [-8.0, -8.0]
    assert near.sampled_at.tolist() == [4, 4]


def test_solved_groups_get_failures_only_when_asked(environment):
    config = RepairConfig(swap=1, solved_groups=True)
    swapped, near = repair(batch(environment), filled(environment), environment, config)
    assert swapped.nonzero().flatten().tolist() == [0, 8]
    assert near is not None
    assert near.score.tolist() == [6, 4]
    assert near.reward.tolist() == [1.0, 0.0]


def test_without_successes_narrow_failures_come_with_a_graded_reward(environment):
    reserve = NearMissReserve(8)
    past = episodes(environment, 0, [3, 4])
    remember(reserve, past, environment, RepairConfig())
    _, near = repair(batch(environment), reserve, environment, RepairConfig())
    assert near is not None
    assert near.success.tolist() == [False, False]
    assert near.reward.tolist() == pytest.approx([4 / 5, 3 / 5])


@pytest.mark.parametrize("swap", [0, 6])
def test_nothing_to_inject_leaves_the_batch_alone(environment, swap):
    reserve = filled(environment) if swap == 0 else NearMissReserve(8)
    sampled = batch(environment)
    swapped, near = repair(sampled, reserve, environment, RepairConfig(swap=swap))
    assert near is None
    assert not swapped.any()
    batches = assemble(sampled, environment, reserve, RepairConfig(swap=swap))
    assert batches.trained is batches.sampled


def test_a_repair_changes_no_advantage_of_a_sampled_row(environment):
    sampled = batch(environment)
    plain = assemble(sampled, environment, None, RepairConfig())
    fixed = assemble(sampled, environment, filled(environment), RepairConfig())
    assert plain.sampled.advantage.tolist() == [0, 0, 0, 0, -0.75, 0.25, 0.25, 0.25, 0, 0, 0, 0]
    assert torch.equal(fixed.sampled.advantage, plain.sampled.advantage)
    trained = fixed.trained
    assert len(trained.episodes) == len(sampled)
    assert trained.ids.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    kept = ~trained.injected
    assert torch.equal(trained.advantage[kept], plain.sampled.advantage[trained.ids[kept]])
    assert trained.advantage[trained.injected].tolist() == [1.0, 1.0]


def test_columns_name_who_was_swapped(environment):
    batches = assemble(batch(environment), environment, filled(environment), RepairConfig())
    columns = describe(batches, environment, RepairConfig(), updates_done=10)
    assert columns["role"] == ["replaced"] * 2 + ["used"] * 10 + ["injected"] * 2
    assert columns["trajectory_id"].tolist() == list(range(14))
    assert columns["behavior_lag"].tolist() == [6] * 14
    near = [False, False, True, False, False, True, True, False, *[False] * 4, True, True]
    assert columns["near_miss"].tolist() == near
