"""Rules on a drift of the mean, on the mean of several steps, and against a reference run."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.errors import RunError
from mmhealth.estimators.edetector import BETS
from mmhealth.health import Alert, Monitor, Policy, Rule
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.policy import load_policy, parse_policy
from mmhealth.health.track import RuleTrack

HEADER = "version = 1\n[rules.low]\nmetric = 'reward'\n"
DRIFT = "drifts_below = 0.8\nbaseline_steps = 5\nwindow = 4\n"


def record(path: Path, rewards: list[float | None], **columns: Any) -> Path:
    """One step a reward."""
    with Recorder(path, strict=True) as rec:
        for step, reward in enumerate(rewards):
            rec.log_step(step, {"turns": [1]} if reward is None else {"reward": [reward]} | columns)
    return path


def judge(path: Path, policy: Policy) -> Monitor:
    monitor = Monitor(path, policy)
    monitor.poll()
    return monitor


def alerts(path: Path, rewards: list[float | None], text: str) -> list[Alert]:
    return judge(record(path, rewards), parse_policy(HEADER + text, "test")).alerts


def values(rewards: list[float | None], **more: Any) -> list[StepMetrics]:
    """A history as an engine has it."""
    return [
        StepMetrics(
            {"step": step, "attempt": 0, "n": 1, "complete": True, "reward": reward, **more}
        )
        for step, reward in enumerate(rewards)
    ]


def fold(rule: Rule, history: list[StepMetrics]) -> list[Alert]:
    """Alerts of a drift rule, which reads no more than the last step each time."""
    track, fired = RuleTrack(rule), list[Alert]()
    for step in history:
        track.judge([step], fired)
    return fired


def test_a_drift_fires_and_resolves_when_the_mean_is_back(tmp_path: Path) -> None:
    rewards: list[float | None] = [0.5, 0.6, 0.4, 0.5, 0.5] + [0.5] * 20 + [0.3] * 40 + [0.45] * 9
    [alert] = alerts(tmp_path, rewards, DRIFT)
    # 0.6 is the furthest of the first values; the best bet, all, gains 1 + 0.1 / 0.2 a step
    assert 25 + 12 < alert.step < 25 + 20
    assert alert.threshold == pytest.approx(0.4)
    assert alert.value == pytest.approx(0.3)
    # three values of 0.45 and one of 0.3 are the first window of four with a mean above 0.4
    assert (alert.state, alert.resolved_step) == ("resolved", 67)


def test_no_single_value_fires_it_and_no_lucky_one_hides_it(tmp_path: Path) -> None:
    steady: list[float | None] = [0.5, 0.6, 0.4, 0.5, 0.5] + [0.5] * 20
    assert not alerts(tmp_path / "one", [*steady, 0.0, *steady], DRIFT)
    lucky: list[float | None] = [0.2, 0.2, 0.2, 9.0]
    assert alerts(tmp_path / "lucky", [*steady, *(lucky * 20)], DRIFT)


@pytest.mark.parametrize("wild", [50.0, 1000.0, 1e9])
def test_one_wild_step_fires_no_rise(wild: float) -> None:
    rule = Rule(name="high", metric="reward", drifts_above=1.5, baseline_steps=20)
    rewards: list[float | None] = [1.0, 0.9, 1.1, 1.0] * 12
    assert not fold(rule, values([*rewards, wild, *rewards]))
    assert fold(rule, values([*rewards, *[wild] * 12]))


@pytest.mark.parametrize("for_steps", [1, 5])
@pytest.mark.parametrize("window", [2, 20, 60])
def test_an_alert_states_the_mean_since_the_evidence_began(window: int, for_steps: int) -> None:
    rule = Rule(
        name="low",
        metric="reward",
        drifts_below=0.8,
        baseline_steps=4,
        window=window,
        for_steps=for_steps,
    )
    steady: list[float | None] = [1.0, 0.9, 1.1, 1.0] * 12
    [alert] = fold(rule, values([*steady, *[0.5] * 40]))
    assert (alert.value, alert.threshold) == (pytest.approx(0.5), pytest.approx(0.8))


@pytest.mark.parametrize("drift", ["drifts_below", "drifts_above"])
@pytest.mark.parametrize("baseline", ["first", "reference"])
def test_the_stated_mean_lies_beyond_the_limit(drift: str, baseline: str) -> None:
    rng, stated = random.Random(0), []
    conditions = {drift: 0.8 if drift == "drifts_below" else 1.3, "baseline": baseline}
    for rate in (1, 10, 100) * 8:
        rule = Rule(
            name="mean", metric="reward", false_alarms_per_1000=rate, **conditions, window=5
        )
        rewards, level = list[float | None](), 1.0
        for _ in range(200):
            level = rng.choice([0.3, 0.8, 1.0, 1.25, 2.0]) if rng.random() < 0.03 else level
            rewards.append(level * rng.uniform(0.7, 1.3) * rng.choice([1] * 40 + [0, 100]))
        history = [
            replace(step, reference={"reward": rng.uniform(0.5, 1.5)}) for step in values(rewards)
        ]
        stated += [(alert.value, alert.threshold) for alert in fold(rule, history)]
    assert len(stated) > 20
    beyond = float.__lt__ if drift == "drifts_below" else float.__gt__
    assert all(beyond(value, threshold) for value, threshold in stated)


def test_in_the_stated_mean_lucky_values_count_as_the_largest_of_the_baseline() -> None:
    rule = Rule(name="low", metric="reward", drifts_below=0.8, baseline_steps=4, window=20)
    lucky: list[float | None] = [0.1, 0.1, 0.1, 9.0]
    [alert] = fold(rule, values([1.0, 0.9, 1.1, 1.0, *lucky * 20]))
    judged = [min(value or 0.0, 1.1) for value in lucky * 20][: alert.step - 3]
    assert alert.value == pytest.approx(sum(judged) / len(judged))
    assert alert.value < alert.threshold


def test_a_rise_is_a_drift_in_the_other_direction(tmp_path: Path) -> None:
    text = "drifts_above = 1.5\nrecover = 1.2\nbaseline_steps = 4\nwindow = 3\n"
    rewards: list[float | None] = [1.0, 0.9, 1.1, 1.0] + [1.2] * 30 + [2.0] * 30 + [1.1] * 9
    [alert] = alerts(tmp_path, rewards, text)
    assert 34 < alert.step < 64
    assert alert.threshold == pytest.approx(1.5)
    assert alert.worst == pytest.approx(2.0)
    assert alert.resolved_step == 66


def test_fewer_false_alarms_take_longer(tmp_path: Path) -> None:
    rewards: list[float | None] = [0.5, 0.6, 0.4, 0.5, 0.5] + [0.3] * 60
    steps = [
        alerts(tmp_path / str(rate), rewards, DRIFT + f"false_alarms_per_1000 = {rate}\n")[0].step
        for rate in (100, 1, 0.01)
    ]
    assert steps == sorted(set(steps))


def test_nothing_is_judged_before_the_baseline_or_without_a_positive_one(tmp_path: Path) -> None:
    rule = parse_policy(HEADER + DRIFT, "test")
    monitor = judge(record(tmp_path / "short", [0.5] * 5), rule)
    assert monitor.rule_engine.never_judged() == ["low"]
    assert judge(record(tmp_path / "six", [0.5] * 6), rule).rule_engine.never_judged() == []
    monitor = judge(record(tmp_path / "zero", [0.0] * 50), rule)
    assert monitor.rule_engine.states() == {"low": "no data"}
    assert monitor.rule_engine.never_judged() == ["low"]


def test_holes_and_infinite_values_are_no_evidence() -> None:
    rule = Rule(name="low", metric="reward", drifts_below=0.8, baseline_steps=3, window=3)
    rewards = [0.5, 0.6, 0.4, *[0.3] * 40]
    [plain] = fold(rule, values(rewards))
    gaps: list[float | None] = [0.5, None, 0.6, 0.4]
    for step, value in enumerate(rewards[3:]):
        gaps += [(None, float("inf"))[step % 2], value]
    [holed] = fold(rule, values(gaps))
    assert gaps[: holed.step + 1].count(0.3) == rewards[: plain.step + 1].count(0.3)


def test_what_solved_groups_explain_neither_fires_nor_counts() -> None:
    rule = Rule(
        name="low",
        metric="reward",
        drifts_below=0.8,
        baseline_steps=3,
        window=3,
        excuse_solved=True,
    )
    steady, fallen = values([0.5, 0.6, 0.4] * 3), values([0.3] * 40)
    solved = values([0.3] * 40, success_rate=0.95)
    assert not fold(rule, steady + solved)
    [alert] = fold(rule, steady + fallen)
    mixed = [step for pair in zip(fallen, solved, strict=True) for step in pair]
    first, *_ = fold(rule, steady + mixed)
    assert first.step == alert.step, "the same fallen step, though there are solved ones between"
    track, fired = RuleTrack(rule), list[Alert]()
    for step in steady + fallen + solved[:1]:
        track.judge([step], fired)
    assert [alert.state for alert in fired] == ["resolved"]
    assert track.state == "solved"


def slow_alerts(rewards: list[float | None], rule: Rule) -> list[tuple[int, int | None]]:
    """Steps at which alerts fire and resolve, with all evidence summed anew at every step."""
    known = [(step, value) for step, value in enumerate(rewards) if value is not None]
    first = [value for _, value in known[: rule.baseline_steps]]
    mean, limit = sum(first) / len(first), rule.drifts_below or 0.0
    bound = max(first) / mean
    found, weighed, since = [], list[float](), list[float]()
    for step, value in known[rule.baseline_steps :]:
        if found and found[-1][1] is None:
            since.append(value)
            last = since[-rule.window :]
            if len(last) == rule.window and sum(last) / len(last) >= limit * mean:
                found[-1] = (found[-1][0], step)
                weighed = []
            continue
        weighed.append(min((limit - min(value / mean, bound)) / (bound - limit), 1.0))
        stakes = [
            np.prod([1 + bet * payoff for payoff in weighed[start:]])
            for bet in BETS
            for start in range(len(weighed))
        ]
        won = any(sum(weighed[start:]) >= 0 for start in range(len(weighed)))
        if won and sum(stakes) / len(BETS) >= 1000 / rule.false_alarms_per_1000:
            found.append((step, None))
            since = []
    return found


@pytest.mark.parametrize("seed", range(4))
def test_alerts_are_those_of_an_oracle_that_remembers_nothing(seed: int) -> None:
    rng = random.Random(seed)
    rule = Rule(
        name="low",
        metric="reward",
        drifts_below=0.9,
        false_alarms_per_1000=100,
        baseline_steps=4,
        window=3,
    )
    levels = [0.5 if (step // 25) % 2 == 0 else 0.35 for step in range(120)]
    rewards = [rng.choice([level + rng.uniform(-0.1, 0.1)] * 5 + [None]) for level in levels]
    fired = fold(rule, values(rewards))
    assert [(alert.step, alert.resolved_step) for alert in fired] == slow_alerts(rewards, rule)
    assert len(fired) > 1


def test_false_alarms_of_a_drift_rule_keep_to_its_promise() -> None:
    """The mean given the past stays at the limit, where most false alarms are; spread varies."""
    rng, runs, steps, rate = np.random.default_rng(0), 40, 200, 20.0
    rule = Rule(
        name="low",
        metric="reward",
        drifts_below=0.8,
        baseline_steps=2,
        window=5,
        false_alarms_per_1000=rate,
    )
    count = 0
    for _ in range(runs):
        rewards, spread = [0.4, 0.6], 0.1
        for _ in range(steps):
            rewards.append(0.4 + spread * float(rng.choice([-1, 1])))
            spread = 0.2 if rewards[-1] < 0.4 else 0.05
        count += len(fold(rule, values(list(rewards))))
    assert 0 < count / (runs * steps) <= rate / 1000


def test_an_attempt_judged_alone_knows_the_baseline_of_older_ones_and_no_evidence(
    tmp_path: Path,
) -> None:
    policy = parse_policy(HEADER + DRIFT, "test")
    record(tmp_path, [0.5, 0.6, 0.4, 0.5, 0.5] + [0.3] * 12)
    monitor = Monitor(tmp_path, policy, first_attempt=1)
    with Recorder(tmp_path, start_step=17, strict=True) as rec:
        for step in range(17, 60):
            rec.log_step(step, {"reward": [0.3]})
            monitor.poll()
    [whole] = judge(tmp_path, policy).alerts
    [alert] = monitor.alerts
    assert alert.step - 17 == whole.step - 5
    assert (alert.attempt, alert.threshold) == (1, pytest.approx(0.4))


def test_a_level_rule_may_judge_the_mean_of_several_steps(tmp_path: Path) -> None:
    rewards: list[float | None] = [1, 1, 0, 1, 0, 0, None, 0, 1, 1, 1]
    [alert] = alerts(tmp_path, rewards, "below = 0.3\nmean_of = 4\nrecover = 0.6\n")
    assert (alert.step, alert.value) == (5, 0.25)
    assert (alert.worst, alert.resolved_step) == (0.25, 10)
    single = alerts(tmp_path / "single", rewards, "below = 0.3\n")
    assert [a.step for a in single] == [2, 4]


def test_a_mean_that_does_not_span_enough_steps_is_no_data(tmp_path: Path) -> None:
    policy = parse_policy(HEADER + "above = 0.5\nmean_of = 3\n", "test")
    assert judge(record(tmp_path / "two", [1.0, 1.0]), policy).rule_engine.states() == {
        "low": "no data"
    }
    assert judge(record(tmp_path / "three", [1.0] * 3), policy).rule_engine.states() == {
        "low": "firing"
    }


def test_the_mean_of_several_steps_below_a_baseline(tmp_path: Path) -> None:
    text = "below_baseline = 0.5\nbaseline_steps = 2\nmean_of = 2\n"
    [alert] = alerts(tmp_path, [1.0, 1.0, 0.2, 1.0, 0.2, 0.4], text)
    assert (alert.step, alert.threshold) == (5, 0.5)
    assert alert.value == pytest.approx(0.3)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Reward climbs from 0.2 by 0.1 a step."""
    return record(tmp_path / "good", [0.2 + 0.1 * step for step in range(30)])


def test_a_level_below_that_of_a_reference_run_at_the_same_steps(
    tmp_path: Path, reference: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        "version = 1\nreference = 'good'\n[rules.low]\nmetric = 'reward'\n"
        "below_baseline = 0.8\nbaseline = 'reference'\nmean_of = 2\n"
    )
    rules = load_policy(policy)
    assert rules.reference == reference
    rewards: list[float | None] = [0.2, 0.3, 0.4, 0.4, 0.4, 0.6, 0.75, 0.9]
    [alert] = judge(record(tmp_path / "run", rewards), rules).alerts
    assert alert.step == 4
    assert alert.threshold == pytest.approx(0.8 * (0.5 + 0.6) / 2)
    beyond = [0.2 + 0.1 * step for step in range(30)] + [0.0] * 5
    longer = judge(record(tmp_path / "longer", list(beyond)), rules)
    assert not longer.alerts
    assert longer.rule_engine.states() == {"low": "no data"}


def test_a_drift_against_a_reference_run(tmp_path: Path, reference: Path) -> None:
    text = "version = 1\nreference = 'good'\n" + HEADER[12:]
    rules = parse_policy(
        text + "drifts_below = 0.8\nbaseline = 'reference'\nwindow = 3\n", "test", tmp_path
    )
    course = [0.2 + 0.1 * step for step in range(30)]
    assert not judge(record(tmp_path / "same", list(course)), rules).alerts
    [alert] = judge(record(tmp_path / "slow", [0.5 * value for value in course]), rules).alerts
    assert alert.value / alert.threshold == pytest.approx(0.5 / 0.8)
    assert alert.state == "firing"


def test_a_reference_that_is_no_run_is_named(tmp_path: Path) -> None:
    text = "version = 1\nreference = 'nowhere'\n" + HEADER[12:]
    rules = parse_policy(text + "below_baseline = 0.8\nbaseline = 'reference'\n", "test", tmp_path)
    with pytest.raises(RunError, match="nowhere"):
        Monitor(record(tmp_path / "run", [1.0]), rules)
