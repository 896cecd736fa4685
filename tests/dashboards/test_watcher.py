import shutil

import polars as pl

from mmhealth import Recorder
from mmhealth.dashboards.watcher import RunWatcher, latest_horizons, watch_runs
from mmhealth.health import default_policy


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
        collapse(recorder, range(3, 8))
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


def test_a_regime_that_was_not_logged_is_what_was_sampled():
    frame = pl.DataFrame(
        {"step": [1], "train_horizons": [[6]], "eval_horizon": [6], "episodes": 9, "successes": 3}
    )
    assert latest_horizons(frame, [8]).regimes == ((6,),)
    assert latest_horizons(frame.drop("train_horizons"), [8]).regimes == ((8,),)
    assert latest_horizons(frame.drop("train_horizons"), []).cells == ()
    assert latest_horizons(frame.drop("eval_horizon"), [8]).cells == ()
    assert latest_horizons(pl.DataFrame(), [8]).cells == ()


def test_the_latest_evaluation_of_each_horizon_counts():
    frame = pl.DataFrame(
        {
            "step": [1, 1, 2],
            "train_horizons": [[6], [6], [6]],
            "eval_horizon": [6, 9, 6],
            "episodes": [10, 10, 10],
            "successes": [1, 2, 3],
        }
    )
    matrix = latest_horizons(frame, [])
    assert [(c.eval_horizon, c.successes) for c in matrix.cells] == [(6, 3), (9, 2)]
