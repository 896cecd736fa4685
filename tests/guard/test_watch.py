"""Which steps count for a job, and which alerts stop it."""

import shutil
from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.errors import RunError
from mmhealth.guard.watch import Watch
from mmhealth.health import Alert, Policy
from mmhealth.health.policy import parse_policy
from mmhealth.integrations.notify import File, Notifier
from mmhealth.integrations.notify.targets import Options

SICK = {"advantage": [1.0] + [0.0] * 63, "entropy": [0.05] * 64}
HEALTHY = {"advantage": [1.0, -1.0] * 32, "entropy": [1.0] * 64}


def rules(text: str, gate: str = "") -> Policy:
    return parse_policy(f"version = 1\n{gate}\n[rules.r]\nseverity = 'critical'\n{text}\n", "test")


LOW = rules("metric = 'ess_signal'\nbelow = 0.2\nfor_steps = 3")


def record(run: Path, first: int, sick: list[bool]) -> None:
    with Recorder(run, start_step=first, strict=True) as rec:
        for step, is_sick in enumerate(sick, first):
            rec.log_step(step, SICK if is_sick else HEALTHY)


def test_a_run_that_begins_later_is_waited_for(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", LOW)
    assert watch.look() == []
    assert watch.last_step() is None
    record(tmp_path / "run", 0, [True] * 4)
    [alert] = watch.look()
    assert (alert.step, watch.last_step()) == (2, 3)


def test_alerts_that_stood_before_do_not_count(tmp_path: Path) -> None:
    record(tmp_path, 0, [True] * 8)
    watch = Watch(tmp_path, LOW)
    assert watch.look() == []
    assert watch.last_step() is None
    record(tmp_path, 6, [True] * 2)
    assert watch.look() == [], "two steps of the job are sick, the rule asks for three"
    with Recorder(tmp_path) as rec:
        rec.log_step(8, SICK)
    [alert] = watch.look()
    assert (alert.pending_step, alert.step) == (6, 8)


def test_a_baseline_is_that_of_the_whole_run(tmp_path: Path) -> None:
    record(tmp_path, 0, [False] * 4)
    low = rules("metric = 'entropy'\nbelow_baseline = 0.1\nbaseline_steps = 3")
    watch = Watch(tmp_path, low)
    record(tmp_path, 4, [True])
    assert [alert.step for alert in watch.look()] == [4]


@pytest.mark.parametrize(
    "condition",
    [
        "metric = 'ess_signal'\nbelow = 0.5\nmean_of = 4",
        "metric = 'ess_signal'\nfalls_by = 0.2\nwhile_rising = 'entropy'\nwindow = 4",
    ],
)
def test_means_are_over_steps_of_the_job(tmp_path: Path, condition: str) -> None:
    """Four steps before are good, four bad; the window before of a fall may be theirs."""
    with Recorder(tmp_path, strict=True) as rec:
        for step in range(8):
            rec.log_step(step, (HEALTHY if step < 4 else SICK) | {"entropy": [0.1 * step] * 64})
    watch = Watch(tmp_path, rules(condition))
    with Recorder(tmp_path, start_step=6, strict=True) as rec:
        for step in range(6, 13):
            rec.log_step(step, (HEALTHY if step < 7 else SICK) | {"entropy": [0.1 * step] * 64})
            alerts = watch.look()
            assert not alerts or step >= 9
    assert watch.unjudged() is None
    assert [alert.step for alert in alerts] == [9]


def test_alerts_that_have_resolved_stop_nothing_but_are_told(tmp_path: Path) -> None:
    told: list[Alert] = []
    watch = Watch(tmp_path / "run", LOW, lambda alert, _run: told.append(alert))
    record(tmp_path / "run", 0, [True] * 3 + [False])
    assert watch.look() == []
    assert [(alert.step, alert.state) for alert in told] == [(2, "resolved")]


def test_alerts_that_a_restart_hides_stop_nothing(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", LOW)
    record(tmp_path / "run", 0, [True] * 3)
    record(tmp_path / "run", 1, [False] * 4)
    assert watch.look() == []


def test_only_what_fails_the_gate_stops(tmp_path: Path) -> None:
    record(tmp_path, 0, [True] * 3)
    condition = "metric = 'ess_signal'\nbelow = 0.2"
    other = "[rules.other]\nmetric = 'reward'\nabove = 99\nseverity = 'critical'\n"
    for gate, stops in {
        "": True,
        f"[gate]\nignore = ['r']\n{other}": False,
        "[gate]\nfrom_step = 3": False,
        "[gate]\nfrom_step = 2": True,
        "[gate]\nto_step = 3": False,
        "[gate]\nto_step = 2": True,
        "[gate]\nfrom_step = 1\nto_step = 3": True,
    }.items():
        watch = Watch(tmp_path / "none", rules(condition, gate))
        watch.run_dir = tmp_path
        assert bool(watch.look()) == stops, gate
    mild = parse_policy(f"version = 1\n[rules.r]\n{condition}\n", "test")
    watch = Watch(tmp_path / "none", mild)
    watch.run_dir = tmp_path
    assert watch.look() == []


def test_alerts_of_a_run_that_replaces_another_are_told(tmp_path: Path) -> None:
    run, options = tmp_path / "run", Options("file")
    with Notifier([File(options, tmp_path / "told")]) as notifier:
        watch = Watch(run, LOW, notifier.send)
        for _ in range(2):
            record(run, 0, [True] * 3)
            watch.look()
            watch.forget()
            watch.look()
            shutil.rmtree(run)
    assert len((tmp_path / "told").read_text().splitlines()) == 2


def test_a_run_that_replaces_another_counts_from_its_first_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(run, 0, [False] * 3)
    record(run, 3, [False])
    watch = Watch(run, LOW)
    assert watch.look() == []
    shutil.rmtree(run)
    record(run, 0, [True] * 3)
    assert [alert.step for alert in watch.look()] == [2]


def test_what_was_not_judged_has_a_reason(tmp_path: Path) -> None:
    watch = Watch(tmp_path, LOW)
    assert "has no complete step of it" in str(watch.unjudged())
    with Recorder(tmp_path) as rec:
        rec.log_step(0, {"reward": [1.0]})
    watch.look()
    assert watch.unjudged() == "no metric of the policy could be computed from what is logged"
    with Recorder(tmp_path) as rec:
        rec.log_step(1, HEALTHY)
    watch.look()
    assert watch.unjudged() is None


def test_a_run_that_cannot_be_read_raises_and_is_read_when_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("junk")
    watch = Watch(tmp_path, LOW)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        watch.look()
    (tmp_path / "run.json").unlink()
    record(tmp_path, 0, [True] * 3)
    watch.forget()
    assert [alert.step for alert in watch.look()] == [2]
