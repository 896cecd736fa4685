"""Harm is read off outcomes, alarms are counted against it, thresholds move to a target."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.errors import CalibrationError
from mmhealth.health import Monitor, Policy, default_policy, load_policy
from mmhealth.health.calibration import (
    Course,
    Harm,
    calibrate,
    calibrated_toml,
    play,
    read_course,
    score,
)
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.rules import Rule
from mmhealth.runlog import open_run

ROWS = 64


def rising(step: int) -> float:
    """Held-out success that ends at a solved task."""
    return min(0.1 + 0.012 * step, 0.96)


def stalling(step: int) -> float:
    return min(0.1 + 0.012 * step, 0.5)


def falling(step: int) -> float:
    return rising(step) if step < 60 else 0.3


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., Harm]:
    """What became of a recorded run with this held-out success."""

    def run(
        success: Callable[[int], float], steps: int = 110, every: int = 2, solved_at: float = 0.9
    ) -> Harm:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        with Recorder(path, strict=True) as rec:
            rec.log_step(0, {"advantage": [1.0, -1.0]})
            for step in range(0, steps, every):
                won = round(1000 * success(step))
                rec.log_evaluation(step, episodes=1000, successes=won)
        return read_course(open_run(path), solved_at=solved_at).harm

    return run


def course(
    values: Callable[[int], float | None],
    harm: Harm | None = None,
    steps: int = 400,
    metric: str = "ess_signal",
) -> Course:
    """A course of which one metric is known; without ``harm`` healthy to the end."""
    known = tuple(
        StepMetrics(
            {"step": step, "attempt": 0, "n": ROWS, "complete": True, metric: values(step)},
            rows={metric: ROWS},
        )
        for step in range(steps)
    )
    return Course("", known, harm or Harm("none", None, "", known_to=steps - 1))


def falls_to(value: float, at: int = 20) -> Callable[[int], float]:
    return lambda step: value if step >= at else 0.75


STALL = Harm("stall", 42, "")


@pytest.fixture
def rule() -> Rule:
    """The article's, as a critical one."""
    return replace(default_policy().rule("ess_signal"), severity="critical")


@pytest.fixture
def policy(rule: Rule) -> Policy:
    return Policy((rule,))


def test_harm_is_read_off_held_out_success_alone(evaluated):
    assert evaluated(rising).kind == "none"
    assert evaluated(stalling).kind == "stall"
    assert evaluated(stalling).step == 42
    assert evaluated(stalling, solved_at=0.45).kind == "none"
    fallen = evaluated(falling)
    assert fallen.kind == "regression"
    assert 60 < fallen.step < 70


def test_what_recovers_by_its_end_is_borderline(evaluated):
    plateau = evaluated(lambda step: 0.3 if step < 70 else min(0.3 + 0.02 * (step - 70), 0.8))
    assert (plateau.kind, plateau.step) == ("borderline", 14)
    dip = evaluated(lambda step: 0.3 if 60 <= step < 90 else rising(step), steps=140)
    assert dip.kind == "borderline"
    assert "falls back" in dip.why
    assert dip.known_to is None


def test_what_never_learned_has_no_onset(evaluated):
    flat = evaluated(lambda _: 0.02)
    assert (flat.kind, flat.step) == ("never", 14 + 40)
    assert evaluated(lambda step: 0.02 if step < 10 else 0.1).kind == "stall"


def test_what_could_not_show_harm_is_not_called_healthy(evaluated):
    assert evaluated(rising, steps=50).kind == "unknown"
    assert evaluated(lambda _: 0.1, steps=400, every=60).kind == "unknown"


def test_a_run_is_healthy_only_as_far_as_it_is_known_to_be(evaluated):
    late = evaluated(lambda step: min(0.1 + 0.005 * step, 0.6), steps=110)
    assert (late.kind, late.known_to) == ("none", 68)
    assert evaluated(rising, steps=200).known_to == 198 - 15
    assert len(course(falls_to(0.1), late).healthy_steps) == 69


def test_after_an_intervention_nobody_knows_what_was_healthy(tmp_path):
    with Recorder(tmp_path / "run", strict=True) as rec:
        for step in range(0, 200, 2):
            rec.log_step(step, {"advantage": [1.0, -1.0]})
            rec.log_evaluation(step, episodes=1000, successes=round(1000 * rising(step)))
            if step == 80:
                rec.log_event(step, "intervention", {"name": "near misses", "active": True})
    found = read_course(open_run(tmp_path / "run"))
    assert (found.harm.kind, found.harm.known_to) == ("none", 79)
    assert found.healthy_steps[-1].values["step"] == 78


def test_alarms_are_those_of_a_monitor(tmp_path):
    rules = (
        default_policy().rule("ess_signal"),
        Rule(name="mean", metric="ess_signal", below=0.4, mean_of=5, min_rows=32),
        Rule(name="drift", metric="ess_signal", drifts_below=0.8, min_rows=32),
        Rule(name="fall", metric="ess_signal", below_baseline=0.5, min_rows=32),
        Rule(name="sure", metric="ess_signal", below=0.5, min_rows=32, demand_interval=0.9),
    )
    groups = [row // 2 for row in range(ROWS)]
    with Recorder(tmp_path / "run", strict=True) as rec:
        for step in range(90):
            count = 4 if 30 <= step < 45 or 60 <= step < 62 else 40 - step % 3
            advantage = [1.0] * count + [0.0] * (ROWS - count)
            rec.log_step(step, {"advantage": advantage, "group_id": groups})
    policy = Policy(rules)
    monitor = Monitor(tmp_path / "run", policy)
    monitor.poll()
    course = read_course(open_run(tmp_path / "run"), demanded=policy.demanded)
    played = play(rules, course.steps)
    assert list(played.alerts) == monitor.alerts
    assert len({alert.rule for alert in played.alerts}) == 5


def test_only_an_alarm_that_stands_sees_harm_coming(rule):
    stalls = [
        course(falls_to(0.1), STALL),
        course(lambda step: 0.1 if 5 <= step < 15 else 0.75, STALL),
        course(falls_to(0.1, at=80), STALL),
        course(lambda _: None, STALL),
    ]
    found = score([rule], stalls)
    assert (found.sick, found.leads) == (3, (20,))
    assert found.healthy_steps == 0
    assert found.false_per_1000 is None


def test_where_nothing_was_learned_there_is_a_step_and_no_lead(rule):
    never = Harm("never", 54, "")
    found = score([rule], [course(falls_to(0.1), never), course(falls_to(0.1), STALL)])
    assert (found.sick, found.detected) == (2, 2)
    assert (found.leads, found.told_at) == ((20,), (22,))
    late = score([rule], [course(falls_to(0.1, at=60), never)])
    assert (late.sick, late.detected, late.told_at) == (1, 0, ())


def test_every_alarm_of_a_healthy_run_is_false(rule):
    healthy = [
        course(lambda _: 0.75),
        course(lambda step: 0.1 if step % 20 < 6 else 0.75),
        course(lambda _: 0.1, Harm("unknown", None, "")),
    ]
    found = score([rule], healthy)
    assert found.false_alarms == (0, 20)
    assert found.runs_with_false_alarms[0] == 0.5
    assert found.false_per_1000_upper > found.false_per_1000
    assert score([rule, replace(rule, name="again")], healthy).false_alarms == (0, 20)


def test_an_alarm_that_never_ends_is_no_long_stretch_without_false_alarms(rule):
    found = score([rule], [course(lambda _: 0.1, steps=5000)])
    assert (found.false_alarms, found.healthy_steps) == ((1,), 3)


def test_steps_without_data_are_no_healthy_steps(rule):
    late = replace(rule, below=None, drifts_below=0.8, baseline_steps=300, for_steps=1)
    assert score([late], [course(lambda _: 0.75)]).healthy_steps == 100
    nothing = replace(rule, below=None, below_baseline=0.8, recover=None, baseline_steps=900)
    assert score([nothing], [course(lambda _: 0.75)]).healthy_runs == 0


def test_where_sick_and_healthy_are_alike_nothing_moves(policy):
    rng = random.Random(0)
    alike = [course(lambda _: rng.uniform(0.5, 0.7), steps=5000)]
    alike += [course(lambda _: rng.uniform(0.5, 0.7), Harm("stall", 300, "")) for _ in range(3)]
    [choice] = calibrate(alike, policy, 1 / 1000).choices
    assert not choice.moved or choice.score.detected == 0


def test_a_rule_that_cries_wolf_is_made_less_sensitive(policy):
    runs = [course(lambda step: 0.15 + 0.04 * (step % 2))] * 3
    runs.append(course(falls_to(0.1), STALL))
    [choice] = calibrate(runs, policy, 1 / 100).choices
    assert choice.why == "cried wolf"
    assert choice.rule.below < 0.19
    assert choice.rule.recover >= choice.rule.below
    assert choice.score.false_alarms == (0, 0, 0)
    assert choice.score.leads == (20,)


def test_a_rule_that_sleeps_is_made_more_sensitive(policy):
    runs = [course(lambda step: 0.6 + 0.03 * (step % 5))] * 3
    runs.append(course(falls_to(0.25), STALL))
    [choice] = calibrate(runs, policy, 1 / 100).choices
    assert choice.score_before.detected == 0
    assert choice.score.leads == (20,)
    assert 0.25 < choice.rule.below <= 0.6


def test_a_rule_that_does_well_is_left_alone(policy):
    runs = [course(lambda _: 0.75)] * 3
    runs.append(course(falls_to(0.1), STALL))
    [choice] = calibrate(runs, policy, 1 / 100).choices
    assert not choice.moved


def test_a_metric_that_is_no_share_can_be_calibrated():
    rule = Rule(name="entropy", metric="entropy", below=3.0, recover=3.3, severity="critical")
    runs = [course(lambda step: 2.5 + 0.1 * (step % 9), metric="entropy")] * 3
    runs.append(course(lambda step: 2.0 if step >= 20 else 3.0, STALL, metric="entropy"))
    [choice] = calibrate(runs, Policy((rule,)), 1 / 100).choices
    assert choice.score.detected == 1
    assert 2.0 < choice.rule.below <= 2.5
    assert choice.rule.recover > choice.rule.below


def test_refuses_a_target_that_the_runs_cannot_support(policy):
    runs = [course(lambda _: 0.75), course(lambda _: 0.75, Harm("unknown", None, ""))]
    with pytest.raises(CalibrationError, match=r"3,000 healthy steps.*400: 2,600 are missing"):
        calibrate(runs, policy, 1 / 1000)


@pytest.mark.parametrize("names", [(), ("low reward", "a.b")], ids=["default", "odd names"])
def test_the_policy_written_is_the_policy_read(names, rule, tmp_path):
    rules = tuple(replace(rule, name=name) for name in names) or default_policy().rules
    runs = [course(lambda step: 0.15 + 0.04 * (step % 2))] * 3
    runs[0].steps[7].values["failed_group_share"] = float("inf")
    found = calibrate(runs, Policy(rules), 1 / 100)
    path = tmp_path / "policy.toml"
    path.write_text(calibrated_toml(found))
    assert load_policy(path).rules == found.policy.rules
    assert "3 healthy runs (1,200 steps)" in path.read_text()


def test_a_reference_run_is_found_wherever_the_policy_is_written(rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = replace(rule, below=None, recover=None, below_baseline=0.8, baseline="reference")
    policy = Policy((held,), reference=Path("conf/good"))
    found = calibrate([course(lambda _: 0.75)], policy, 1 / 100)
    path = tmp_path / "elsewhere.toml"
    path.write_text(calibrated_toml(found))
    assert load_policy(path).reference == tmp_path / "conf" / "good"
    assert not found.choices[0].moved
