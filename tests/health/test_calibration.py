"""Harm is read off outcomes, alarms are counted against it, thresholds move to a target."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.errors import CalibrationError
from mmhealth.health import Policy, default_policy, load_policy
from mmhealth.health.calibration import (
    Course,
    alarms,
    calibrate,
    calibrated_toml,
    read_course,
    score_pack,
    score_rule,
)
from mmhealth.runlog import open_run

STEPS = 110
ROWS = 32


def rising(step: int) -> float:
    """Held-out success that ends at a solved task."""
    return min(0.1 + 0.012 * step, 0.96)


def stalling(step: int) -> float:
    return min(0.1 + 0.012 * step, 0.5)


def falling(step: int) -> float:
    return rising(step) if step < 60 else 0.3


def always(count: int) -> Callable[[int], int]:
    return lambda _: count


def falls_to(count: int) -> Callable[[int], int]:
    """A signal in 24 rows, from step 20 on in ``count``."""
    return lambda step: count if step >= 20 else 24


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Course]:
    """A recorded run: ``carrying`` of the 32 rows have a signal, so its ESS is that over 32."""

    def run(
        name: str,
        carrying: Callable[[int], int],
        success: Callable[[int], float] | None = rising,
        solved_at: float = 0.9,
    ) -> Course:
        with Recorder(tmp_path / name, strict=True) as rec:
            for step in range(STEPS):
                count = carrying(step)
                rec.log_step(step, {"advantage": [1.0] * count + [0.0] * (ROWS - count)})
                if success is not None and step % 2 == 0:
                    won = round(1000 * success(step))
                    rec.log_evaluation(step, episodes=1000, successes=won)
        return read_course(open_run(tmp_path / name), solved_at=solved_at)

    return run


@pytest.fixture
def policy() -> Policy:
    """The article's rule alone."""
    return Policy((replace(default_policy().rule("ess_signal"), severity="critical"),))


def test_harm_is_read_off_held_out_success_alone(make):
    kinds = {
        "solved": make("solved", always(1)),
        "stalled": make("stalled", always(30), stalling),
        "fallen": make("fallen", always(30), falling),
        "unknown": make("unknown", always(1), None),
        "good enough": make("enough", always(1), stalling, solved_at=0.45),
    }
    found = {name: course.harm.kind for name, course in kinds.items()}
    assert found == {
        "solved": "none",
        "stalled": "stall",
        "fallen": "regression",
        "unknown": "unknown",
        "good enough": "none",
    }
    assert kinds["stalled"].harm.step == 42
    assert 60 < kinds["fallen"].harm.step < 70


def test_alarms_are_those_of_a_monitor(make, policy):
    course = make("dips", lambda step: 4 if 20 <= step < 30 or 50 <= step < 52 else 24)
    [alert] = alarms(policy.rules[0], course.steps)
    assert (alert.step, alert.resolved_step) == (22, 34)


def test_only_an_alarm_that_stands_sees_harm_coming(make, policy):
    stalls = [
        make("early", falls_to(4), stalling),
        make("over", lambda step: 4 if 5 <= step < 15 else 24, stalling),
        make("late", lambda step: 4 if step >= 80 else 24, stalling),
    ]
    score = score_rule(policy.rules[0], stalls)
    assert (score.sick, score.leads) == (3, (20,))
    assert score.healthy_steps == 0
    assert score.false_per_1000 is None


def test_every_alarm_of_a_healthy_run_is_false(make, policy):
    healthy = [
        make("quiet", always(24)),
        make("wolf", lambda step: 4 if step % 20 < 6 else 24),
        make("unknown", always(4), None),
    ]
    score = score_rule(policy.rules[0], healthy)
    assert score.false_alarms == (0, 6)
    assert score.false_per_1000 == pytest.approx(1000 * 6 / 220)
    assert score.false_per_1000_upper > score.false_per_1000
    assert score.runs_with_false_alarms[0] == 0.5
    assert score_pack(policy.rules * 2, healthy).false_alarms == (0, 12)


def test_a_rule_that_cries_wolf_is_made_less_sensitive(make, policy):
    runs = [make("wolf", lambda step: 5 + step % 2)] * 3
    runs.append(make("sick", falls_to(3), stalling))
    found = calibrate(runs, policy, 1 / 100)
    [choice] = found.choices
    assert choice.moved
    assert choice.why == "cried wolf"
    assert choice.rule.below < 6 / 32
    assert choice.rule.recover >= choice.rule.below
    assert choice.score.false_alarms == (0, 0, 0)
    assert choice.score.leads == (20,)


def test_a_rule_that_sleeps_is_made_more_sensitive(make, policy):
    runs = [make("well", lambda step: 20 + step % 5)] * 3
    runs.append(make("sick", falls_to(8), stalling))
    [choice] = calibrate(runs, policy, 1 / 100).choices
    assert choice.score_before.detected == 0
    assert choice.score.leads == (20,)
    assert 8 / 32 < choice.rule.below < 20 / 32


def test_a_rule_that_does_well_is_left_alone(make, policy):
    runs = [make("well", always(24))] * 3
    runs.append(make("sick", falls_to(3), stalling))
    [choice] = calibrate(runs, policy, 1 / 100).choices
    assert not choice.moved


def test_refuses_a_target_that_the_runs_cannot_support(make, policy):
    runs = [make("well", always(24)), make("unknown", always(24), None)]
    with pytest.raises(CalibrationError, match=r"3,000 healthy steps.*110: 2,890 are missing"):
        calibrate(runs, policy, 1 / 1000)


def test_the_policy_written_is_the_policy_read(make, tmp_path):
    runs = [make("wolf", lambda step: 5 + step % 2)] * 3
    found = calibrate(runs, default_policy(), 1 / 100)
    path = tmp_path / "policy.toml"
    path.write_text(calibrated_toml(found))
    assert load_policy(path).rules == found.policy.rules
    assert "3 healthy runs (330 steps)" in path.read_text()
