"""How steps without data count towards a breach."""

from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.health import Alert, Monitor, Policy, Rule


def play(path: Path, rewards: list[float | None], for_steps: int) -> tuple[list[Alert], list[str]]:
    """Record one step a reward; return the alerts and the rule's state after each step."""
    states = []
    rule = Rule(name="low", metric="reward", below=0.2, for_steps=for_steps)
    with Recorder(path) as rec:
        monitor = Monitor(path, Policy((rule,)))
        for step, reward in enumerate(rewards):
            rec.log_step(step, {"turns": [1]} if reward is None else {"reward": [reward]})
            monitor.poll()
            states.append(monitor.engine.states()["low"])
    return monitor.alerts, states


@pytest.mark.parametrize("every", [2, 3, 4])
def test_holes_at_regular_steps_do_not_keep_a_rule_from_firing(tmp_path: Path, every: int) -> None:
    rewards = [None if step % every == every - 1 else 0.1 for step in range(12)]
    alerts, _ = play(tmp_path, rewards, 3)
    assert [alert.pending_step for alert in alerts] == [0]


@pytest.mark.parametrize(("silent", "fires"), [(5, True), (6, False)])
def test_a_long_silence_starts_the_count_anew(tmp_path: Path, silent: int, fires: bool) -> None:
    rewards = [0.1, *[None] * silent, 0.1]
    alerts, states = play(tmp_path, rewards, 2)
    assert bool(alerts) == fires
    assert states[-1] == ("firing" if fires else "pending")
