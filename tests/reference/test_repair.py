import pytest
import torch

from mmhealth.interventions import NearMissReserve
from mmhealth.reference import RepairConfig
from mmhealth.reference.advantages import advantages, reference_key
from mmhealth.reference.batch import Batch, padded
from mmhealth.reference.describe import describe
from mmhealth.reference.environments.majority_rule import MajorityRule, MajorityRuleConfig
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.repair import remember, repair
from mmhealth.reference.trajectories import Trajectories, concatenate, judged


@pytest.fixture
def environment() -> MajorityRule:
    config = MajorityRuleConfig(prompts=3, need_low=5, need_high=5)
    return MajorityRule(config, torch.Generator().manual_seed(0))


def rows(environment: MajorityRule, prompt: int, scores: list[int]) -> Trajectories:
    """Episodes of a prompt with these scores, sampled by the policy of update 4."""
    answers = environment.answers[prompt]
    right = torch.arange(10) < torch.tensor(scores)[:, None]
    actions = torch.where(right, answers, (answers + 1) % 3)
    count = len(scores)
    asked = torch.full((count,), prompt)
    play = environment.play(asked, torch.ones(count), torch.Generator())
    turn = play.turn()
    assert turn is not None
    play.act(actions)
    outcome = play.outcome()
    episodes = Episodes(
        prompt=asked,
        horizon=torch.ones(count),
        observations=turn.spread()[0],
        allowed=None,
        valid=turn.valid,
        strategic=torch.zeros_like(turn.valid),
        turn=torch.zeros_like(actions),
        actions=actions,
        log_prob=torch.full((count,), -8.0, dtype=torch.float64),
        entropy=torch.full((count,), 0.5),
        strategic_entropy=torch.full((count,), torch.nan),
        sampled_at=torch.full((count,), 4),
    )
    return judged(episodes, outcome, outcome.rewards["task"])


def keep(reserve: NearMissReserve, past: Trajectories, config: RepairConfig) -> None:
    """Remember rows that were all sampled."""
    remember(reserve, past, torch.ones(len(past), dtype=torch.bool), config)


def batch(environment: MajorityRule) -> Trajectories:
    """Prompt 0 fails, prompt 1 is mixed, prompt 2 is solved."""
    parts = [[1, 2, 4, 0], [2, 5, 6, 9], [8, 9, 10, 7]]
    return concatenate([rows(environment, k, scores) for k, scores in enumerate(parts)])


def filled(environment: MajorityRule) -> NearMissReserve:
    reserve = NearMissReserve(8)
    for prompt in range(3):
        keep(reserve, rows(environment, prompt, [3, 5, 6, 4, 9, 1]), RepairConfig())
    return reserve


def scores_of(items) -> list[int]:
    return [int(item["score"]) for item in items]


def test_only_near_misses_are_remembered(environment):
    reserve = filled(environment)
    assert len(reserve) == 3 * 4
    assert scores_of(reserve.take(0, "succeeded", 9)) == [6, 5]
    assert scores_of(reserve.take(0, "failed", 9)) == [4, 3]


def test_hard_negatives_are_clear_failures(environment):
    reserve = NearMissReserve(8)
    past = rows(environment, 0, [3, 5, 2, 4, 9, 1])
    keep(reserve, past, RepairConfig(kind="hard_negative"))
    assert scores_of(reserve.take(0, "failed", 9)) == [1, 2]
    assert not reserve.take(0, "succeeded", 9)


def test_of_one_step_only_the_newest_are_remembered(environment):
    reserve = NearMissReserve(2)
    keep(reserve, rows(environment, 0, [3, 4, 3, 4, 4]), RepairConfig())
    assert scores_of(reserve.take(0, "failed", 9)) == [4, 4]


def test_a_failed_group_gets_narrow_successes(environment):
    swapped, near = repair(batch(environment), filled(environment), RepairConfig(swap=3))
    assert swapped.nonzero().flatten().tolist() == [0, 1]
    assert near is not None
    assert near.episodes.prompt.tolist() == [0, 0]
    assert near.score.tolist() == [6, 5]
    assert near.reward.tolist() == [1.0, 1.0]
    assert near.labels["capability"] == batch(environment).labels["capability"][:2]
    assert near.episodes.log_prob.tolist() == [-8.0, -8.0]
    assert near.episodes.sampled_at.tolist() == [4, 4]


def test_an_injected_episode_is_the_one_that_was_played(environment):
    past = rows(environment, 0, [6])
    reserve = NearMissReserve(8)
    keep(reserve, past, RepairConfig())
    _, near = repair(batch(environment), reserve, RepairConfig())
    assert near is not None
    for name in Episodes.__slots__:
        before, after = getattr(past.episodes, name), getattr(near.episodes, name)
        if before is None:
            assert after is None
        else:
            assert before.dtype == after.dtype
            assert torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)


def test_solved_groups_get_failures_only_when_asked(environment):
    config = RepairConfig(swap=1, solved_groups=True)
    swapped, near = repair(batch(environment), filled(environment), config)
    assert swapped.nonzero().flatten().tolist() == [0, 8]
    assert near is not None
    assert near.score.tolist() == [6, 4]
    assert near.reward.tolist() == [1.0, 0.0]


def test_without_successes_narrow_failures_come_with_a_graded_reward(environment):
    reserve = NearMissReserve(8)
    keep(reserve, rows(environment, 0, [3, 4]), RepairConfig())
    _, near = repair(batch(environment), reserve, RepairConfig())
    assert near is not None
    assert near.success.tolist() == [False, False]
    assert near.reward.tolist() == pytest.approx([4 / 5, 3 / 5])


@pytest.mark.parametrize("swap", [0, 6])
def test_nothing_to_inject_leaves_the_batch_alone(environment, swap):
    reserve = filled(environment) if swap == 0 else NearMissReserve(8)
    swapped, near = repair(batch(environment), reserve, RepairConfig(swap=swap))
    assert near is None
    assert not swapped.any()


def test_injected_rows_are_compared_with_what_the_policy_sampled(environment):
    sampled = batch(environment)
    key = reference_key("group", sampled.episodes)
    own = advantages("group", sampled, sampled.reward, key)
    assert own.tolist() == [0, 0, 0, 0, -0.75, 0.25, 0.25, 0.25, 0, 0, 0, 0]
    _, near = repair(sampled, filled(environment), RepairConfig())
    assert near is not None
    assert advantages("group", near, sampled.reward, key).tolist() == [1.0, 1.0]


def test_columns_name_who_was_swapped(environment):
    sampled = batch(environment)
    swapped, near = repair(sampled, filled(environment), RepairConfig())
    every = concatenate([sampled, near])
    fixed = Batch(
        rows=every,
        advantage=torch.zeros(14),
        replaced=padded(swapped, 14),
        injected=torch.arange(14) >= 12,
    )
    play = environment.play(sampled.episodes.prompt, torch.ones(12), torch.Generator())
    play.turn()
    play.act(sampled.episodes.actions)
    columns = describe(fixed, play.outcome(), RepairConfig(), updates_done=10)
    assert columns["role"] == ["replaced"] * 2 + ["used"] * 10 + ["injected"] * 2
    assert columns["trajectory_id"].tolist() == list(range(14))
    assert columns["behavior_lag"].tolist() == [6] * 14
    near_misses = [False, False, True, False, False, True, True, False, *[False] * 4, True, True]
    assert columns["near_miss"].tolist() == near_misses


def test_rows_from_the_reserve_do_not_enter_it_again(environment):
    reserve = NearMissReserve(8)
    sampled = torch.tensor([True, False])
    remember(reserve, rows(environment, 0, [4, 4]), sampled, RepairConfig())
    assert len(reserve) == 1
