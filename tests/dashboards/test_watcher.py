import shutil

from mmhealth import Recorder
from mmhealth.dashboards.watcher import RunWatcher, watch_runs
from mmhealth.health import Monitor, default_policy
from mmhealth.report import audit_runs


def watcher(path):
    return RunWatcher(path, "r", 0, default_policy(), 0.05)


def collapse(recorder, steps):
    for step in steps:
        advantage = [1.0] * 64 if step < 4 else [1.0] + [0.0] * 63
        recorder.log_step(step, {"reward": [0.5] * 64, "advantage": advantage})


def test_a_run_that_is_not_there_is_waited_for(tmp_path):
    watched = watcher(tmp_path / "r")
    watched.poll()
    assert watched.snapshot.state == "waiting"
    assert "not there yet" in watched.snapshot.message
    with Recorder(tmp_path / "r") as recorder:
        collapse(recorder, range(3))
    watched.poll()
    assert watched.snapshot.state == "watching"
    assert watched.snapshot.view.timeline["step"].to_list() == [0, 1, 2]


def test_the_revision_changes_with_the_data_only(tmp_path):
    watched = watcher(tmp_path / "r")
    with Recorder(tmp_path / "r") as recorder:
        collapse(recorder, range(3))
        watched.poll()
        before = watched.snapshot
        watched.poll()
        assert watched.snapshot is before
        collapse(recorder, range(3, 10))
        watched.poll()
    after = watched.snapshot
    assert after.revision > before.revision
    assert after.verdict.name == "critical"
    assert after.view.alerts[0].rule == "ess_signal"
    assert len(before.view.timeline) == 3, "a snapshot never changes"


def test_steps_can_be_asked_for(tmp_path):
    watched = watcher(tmp_path / "r")
    assert watched.step(0) is None
    with Recorder(tmp_path / "r") as recorder:
        collapse(recorder, range(5))
    watched.poll()
    assert len(watched.step(4).frame) == 64
    assert watched.step(99) is None


def test_another_run_in_the_same_place_is_read_afresh(tmp_path):
    watched = watcher(tmp_path / "r")
    with Recorder(tmp_path / "r") as recorder:
        collapse(recorder, range(6))
    watched.poll()
    shutil.rmtree(tmp_path / "r")
    watched.poll()
    assert watched.snapshot.view.timeline.height == 6, "what was seen stays on the page"
    with Recorder(tmp_path / "r") as recorder:
        collapse(recorder, range(2))
    watched.poll()
    assert watched.snapshot.view.timeline.height == 2
    assert not watched.snapshot.view.alerts


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "run.json").write_text("{")
    watched = watcher(tmp_path)
    watched.poll()
    assert watched.snapshot.state == "unreadable"
    assert "run.json" in watched.snapshot.message


def test_runs_of_one_name_are_told_apart(tmp_path):
    watchers = watch_runs(
        [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "other"],
        default_policy(),
        autostart=False,
    )
    assert len({watched.name for watched in watchers}) == 3
    assert watchers[2].name == "other"


def evaluate(recorder, step, successes, horizon=6, **more):
    recorder.log_evaluation(step, episodes=10, successes=successes, eval_horizon=horizon, **more)


def test_a_growing_run_shows_its_held_out_success_and_latest_horizons(tmp_path):
    """The last attempt hides step 1 and what it was sampled with."""
    watched = watcher(tmp_path / "r")
    story = [(0, 6, [0.0], (6,)), (1, 9, [0.0, 0.1], (6, 9)), (1, 8, [0.0, 0.1], (6, 8))]
    for attempt, (step, horizon, rates, regime) in enumerate(story):
        with Recorder(tmp_path / "r", attempt=attempt, start_step=step) as recorder:
            recorder.log_step(step, {"reward": [0.5] * 4, "horizon": [horizon] * 4})
            evaluate(recorder, step, successes=step)
        watched.poll()
        assert watched.snapshot.view.held_out.frame["rate"].to_list() == rates
        (cell,) = watched.snapshot.horizon.cells
        assert (cell.regime, cell.successes) == (regime, step)
        fresh = watcher(tmp_path / "r")
        fresh.poll()
        assert fresh.snapshot.horizon == watched.snapshot.horizon


def test_page_and_report_read_the_same_horizons(tmp_path):
    with Recorder(tmp_path / "r") as recorder:
        for step in range(40):
            recorder.log_step(step, {"reward": [0.5] * 4, "horizon": [6 + step % 2] * 4})
        evaluate(recorder, 10, 1)
        evaluate(recorder, 20, 2, horizon=9, train_horizons=[9])
        evaluate(recorder, 30, 3, policy_id="other", train_horizons=[12])
        evaluate(recorder, 30, 3, policy_id="another")
    watched = watcher(tmp_path / "r")
    watched.poll()
    horizons = audit_runs([Monitor(tmp_path / "r")]).horizons
    assert watched.snapshot.horizon == horizons.matrices["r"]
    assert watched.snapshot.horizon.regimes == ((9,), (12,), (6, 7))
    assert len(horizons.left_out) == 1
