"""Attempts and late data: what is judged while it grows equals what a fresh look says."""

import random
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import Monitor, Policy, Rule, Timeline, judge_run
from mmhealth.health.rule_engine import RuleEngine

SICK = {"advantage": [1.0] + [0.0] * 63}
HEALTHY = {"advantage": [1.0, -1.0] * 32}

RULES = Policy(
    rules=(
        Rule(name="low", metric="reward", below=0.3, recover=0.6, for_steps=2, recover_steps=2),
        Rule(name="base", metric="reward", below_baseline=0.5, baseline_steps=4, for_steps=2),
        Rule(name="fall", metric="reward", falls_by=0.3, while_rising="entropy", window=3),
        Rule(name="signal", metric="ess_signal", below=0.6, for_steps=2),
        Rule(name="gap", metric="data_gap", above=0),
        Rule(name="mean", metric="reward", above=0.6, mean_of=3, recover_steps=2),
        Rule(
            name="drift",
            metric="reward",
            drifts_below=0.9,
            false_alarms_per_1000=400,
            baseline_steps=2,
            window=2,
            for_steps=2,
        ),
        Rule(
            name="rise",
            metric="reward",
            drifts_above=1.1,
            false_alarms_per_1000=400,
            baseline="reference",
            window=2,
        ),
    )
)


def test_a_breach_is_judged_again_after_an_attempt_without_a_step(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        live = Monitor(tmp_path)
        for step in range(12):
            rec.log_step(step, HEALTHY if step < 5 else SICK)
            live.poll()
    Recorder(tmp_path, start_step=4).close()
    live.poll()
    assert live.rule_engine.states()["ess_collapse"] == "inactive"
    with Recorder(tmp_path, start_step=9) as rec:
        for step in range(9, 20):
            rec.log_step(step, SICK)
            live.poll()
    fresh = Monitor(tmp_path)
    fresh.poll()
    for monitor in (live, fresh):
        firing = [a for a in monitor.alerts if a.rule == "ess_collapse" and a.state == "firing"]
        assert [(a.pending_step, a.step) for a in firing] == [(9, 13)]
        assert judge_run(monitor).name == "critical"
    assert live.alerts == fresh.alerts


def test_alerts_stop_firing_when_an_attempt_hides_them_before_its_first_step(
    tmp_path: Path,
) -> None:
    with Recorder(tmp_path) as rec:
        for step in range(8):
            rec.log_step(step, SICK)
    monitor = Monitor(tmp_path)
    monitor.poll()
    assert monitor.rule_engine.states()["ess_collapse"] == "firing"
    Recorder(tmp_path, start_step=1).close()
    monitor.poll()
    assert {alert.state for alert in monitor.alerts} == {"superseded"}
    assert monitor.rule_engine.states()["ess_collapse"] == "pending"


class _Ranks:
    """Two ranks that train, lag, amend, die and restart at random."""

    def __init__(self, path: Path, seed: int, stack: ExitStack) -> None:
        self.path, self.rng, self.stack = path, random.Random(seed), stack
        self.attempt, self.open, self.next = -1, {}, {}
        self.restart(0)

    def restart(self, start: int) -> None:
        self.attempt += 1
        self.open: dict[int, Recorder] = {}
        self.next = {0: start, 1: start}
        self.start = start

    def act(self) -> None:
        rank, dice = self.rng.randrange(2), self.rng.random()
        if rank not in self.open:
            recorder = Recorder(
                self.path, rank=rank, world_size=2, attempt=self.attempt, start_step=self.start
            )
            self.open[rank] = self.stack.enter_context(recorder)
        elif dice < 0.06:
            self.restart(self.rng.randrange(max(self.next.values()) + 1))
        elif self.next[rank] <= self.next[1 - rank] + 8:
            if dice < 0.4 and self.next[rank] > self.start:
                self.amend(rank)
            self.open[rank].log_step(self.next[rank], self.columns())
            self.next[rank] += 1

    def amend(self, rank: int) -> None:
        """A late value; on disk when the next step is."""
        now = self.next[rank]
        step = self.rng.randrange(max(self.start, now - 9), now)
        self.open[rank].amend(step, 1, "reward", self.value(), arrived_step=now)

    def value(self) -> float:
        return self.rng.choice([0.0, 0.1, 0.5, 1.0])

    def columns(self) -> dict[str, Any]:
        found: dict[str, Any] = {"entropy": [self.rng.random()] * 2}
        if self.rng.random() < 0.8:
            found["reward"] = [self.value(), self.rng.choice([None, self.value()])]
        found["advantage"] = [1.0, self.value()]
        if self.rng.random() < 0.3:
            found["log_weight"] = [self.value(), 0.0]
        return found


@pytest.mark.parametrize("seed", range(6))
def test_what_is_judged_live_equals_a_fresh_look_at_every_poll(tmp_path: Path, seed: int) -> None:
    seen: set[str] = set()
    path, policy = tmp_path / "run", replace(RULES, reference=tmp_path / "reference")
    with Recorder(policy.reference) as rec:
        for step in range(0, 60, 2):
            rec.log_step(step, {"reward": [0.1 * (step % 4)]})
    with ExitStack() as stack:
        ranks = _Ranks(path, seed, stack)
        ranks.act()
        timeline = Timeline(open_run(path))
        beside = Monitor(path, policy).rule_engine.reference
        engine = RuleEngine(policy, snapshot_steps=3, reference=beside)
        for _ in range(100):
            ranks.act()
            if ranks.rng.random() < 0.3:
                continue
            engine.advance(timeline, timeline.update())
            fresh = RuleEngine(policy, reference=beside)
            fresh.advance(timeline, min(timeline.lived, default=None))
            assert_same(engine, fresh)
            firing = {a.rule for a in engine.alerts if a.state == "firing"}
            assert firing == {rule for rule, s in engine.states().items() if s == "firing"}
            seen |= {f"{alert.rule} {alert.state}" for alert in engine.alerts}
            if ranks.rng.random() < 0.1:
                monitor = Monitor(path, policy)
                monitor.poll()
                assert_same(engine, monitor.rule_engine)
                assert timeline.frame.equals(monitor.timeline.frame)
                assert timeline.reasons() == monitor.timeline.reasons()
    assert len(seen) > 5


def assert_same(engine: RuleEngine, other: RuleEngine) -> None:
    assert engine.alerts == other.alerts
    assert engine.states() == other.states()
    assert engine.never_judged() == other.never_judged()


class _CountingRule(Rule):
    """Counts how often it judges."""

    judged = 0

    def judge(self, history: Any) -> Any:
        type(self).judged += 1
        return super().judge(history)


def test_a_late_value_at_each_step_does_not_judge_the_whole_run_again(tmp_path: Path) -> None:
    _CountingRule.judged = 0
    steps = 240
    with Recorder(tmp_path) as rec:
        monitor = Monitor(
            tmp_path, Policy((_CountingRule(name="low", metric="reward", below=0.2),))
        )
        for step in range(steps):
            rec.log_step(step, {"reward": [1.0, None]})
            rec.amend(max(step - 3, 0), 1, "reward", 1.0, arrived_step=step)
            monitor.poll()
    assert _CountingRule.judged < 60 * steps
