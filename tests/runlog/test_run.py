import json
from pathlib import Path

import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import RunError, RunNotFoundError, SchemaVersionError


def rank(path: Path, number: int, attempt: int = 0, start: int | None = None) -> Recorder:
    return Recorder(path, rank=number, world_size=2, attempt=attempt, start_step=start)


def log(rec: Recorder, steps: range, value: float = 0.0) -> None:
    for step in steps:
        rec.log_step(step, {"reward": [value] * 4})


def test_paths_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"no run\.json"):
        open_run(tmp_path / "nothing")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(SchemaVersionError, match="upgrade"):
        open_run(tmp_path)


def test_an_empty_run_has_empty_frames(tmp_path: Path) -> None:
    Recorder(tmp_path / "run").close()
    run = open_run(tmp_path / "run")
    assert run.trajectories.is_empty()
    assert run.steps.is_empty()
    assert run.tail().steps == []
    assert run.status().last_step is None


def test_a_step_is_complete_when_all_ranks_committed(tmp_path: Path) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as one:
        run = open_run(tmp_path)
        log(zero, range(3))
        assert run.tail().steps == []
        assert [item.ranks_missing for item in run.status().incomplete] == [1, 1, 1]
        log(one, range(2))
        steps = run.tail().steps
        assert [data.step for data in steps] == [0, 1]
        assert all(data.complete and data.ranks == (0, 1) for data in steps)
        assert steps[0].trajectories.shape[0] == 8
        assert steps[0].trajectories["rank"].to_list() == [0] * 4 + [1] * 4
        assert run.tail().steps == []


def test_complete_steps_and_a_step_that_the_run_must_have(tmp_path: Path) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as one:
        log(zero, range(3, 6))
        log(one, range(3, 5))
    run = open_run(tmp_path)
    assert run.complete_steps() == [3, 4]
    assert run.require_step(5).ranks == (0,)
    with pytest.raises(RunError, match="has no step 6: it has steps 3 to 5"):
        run.require_step(6)
    Recorder(tmp_path / "empty").close()
    empty = open_run(tmp_path / "empty")
    assert empty.complete_steps() == []
    with pytest.raises(RunError, match="has no step 0: it has none"):
        empty.require_step(0)


def test_the_first_step_lived_with_a_value_may_be_hidden_and_is_one_that_tail_returns(
    tmp_path: Path,
) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as one:
        for step in range(4):
            zero.log_step(step, {"log_weight": [None if step == 0 else 0.5], "reward": [1.0]})
        log(one, range(1))
        run = open_run(tmp_path)
        assert run.first_lived("log_weight") is None, "steps 1 to 3 wait for rank 1"
        log(one, range(1, 4))
        run.refresh()
        assert run.first_lived("log_weight") == (0, 1)
    log(rank(tmp_path, 0, attempt=1, start=0), range(1))
    run.refresh()
    assert run.step_data(1) is None
    assert run.first_lived("log_weight") == (0, 1)
    assert run.first_lived("nothing") is None


def test_a_step_that_stays_incomplete_is_returned_some_steps_later(tmp_path: Path) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as one:
        run = open_run(tmp_path)
        log(zero, range(8))
        log(one, range(1))
        log(one, range(2, 8))
        returned = {data.step: data.complete for data in run.tail().steps}
        assert returned == {step: step != 1 for step in range(8)}
        log(one, range(1, 2))
        [late] = run.tail().steps
        assert (late.step, late.complete) == (1, True)


def test_a_new_attempt_hides_older_rows_on_all_ranks(tmp_path: Path) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as one:
        log(zero, range(10), 1.0)
        log(one, range(10), 1.0)
    run = open_run(tmp_path)
    assert len(run.tail().steps) == 10
    with rank(tmp_path, 0, attempt=1, start=6) as zero:
        run.refresh()
        assert run.trajectories["step"].unique().to_list() == list(range(6))
        log(zero, range(6, 8), 2.0)
        assert run.tail().steps == []
        assert run.tail().starts == {0: 0, 1: 6}
        assert [item.step for item in run.status().incomplete] == [6, 7]
        with rank(tmp_path, 1, attempt=1, start=6) as one:
            log(one, range(6, 7), 2.0)
            assert [(data.step, data.attempt) for data in run.tail().steps] == [(6, 1)]
    by_step = dict(run.trajectories.select("step", "reward").rows())
    assert by_step == {**dict.fromkeys(range(6), 1.0), 6: 2.0, 7: 2.0}
    assert run.status().rows_hidden == 4 * 8
    assert [(a.number, a.start, a.ranks) for a in run.status().attempts] == [
        (0, 0, (0, 1)),
        (1, 6, (0, 1)),
    ]


def test_a_straggler_of_an_old_attempt_stays_hidden(tmp_path: Path) -> None:
    with rank(tmp_path, 0) as zero, rank(tmp_path, 1) as old_one:
        log(zero, range(5), 1.0)
        with rank(tmp_path, 0, attempt=1) as new_zero:
            log(new_zero, range(3, 5), 2.0)
            log(old_one, range(5), 1.0)
    run = open_run(tmp_path)
    assert run.trajectories.filter(step=3)["reward"].to_list() == [2.0] * 4
    assert [item.step for item in run.status().incomplete] == [3, 4]


def test_evaluations_of_a_hidden_stretch_are_hidden_too(tmp_path: Path) -> None:
    for start in (0, 2):
        with Recorder(tmp_path, start_step=start) as rec:
            for step in range(start, 4):
                rec.log_step(step, {"reward": [1.0]})
                rec.log_evaluation(step, episodes=10, successes=start)
    run = open_run(tmp_path)
    assert run.evaluations["successes"].to_list() == [0, 0, 2, 2]


def test_a_late_value_returns_its_step_again(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        run = open_run(tmp_path)
        rec.log_step(0, {"reward": [None, 2.0], "success": [None, True]})
        [first] = run.tail().steps
        assert first.trajectories["reward"].to_list() == [None, 2.0]
        rec.amend(0, 0, "reward", 5.0, arrived_step=3)
        rec.amend(0, 0, "success", 1, arrived_step=3)
        rec.log_step(1, {"reward": [1.0]})
        again = run.tail().steps[0]
        assert again.step == 0
        assert again.trajectories["reward"].to_list() == [5.0, 2.0]
        assert again.trajectories["success"].to_list() == [True, True]


def test_a_reader_that_follows_sees_what_a_fresh_one_sees(tmp_path: Path) -> None:
    """Across rotation and sealing, each step exactly once."""
    with Recorder(tmp_path, segment_bytes=5_000) as rec:
        follower, seen = open_run(tmp_path), []
        for step in range(60):
            rec.log_step(step, {"reward": [float(step)] * 20})
            seen += [data.step for data in follower.tail().steps]
    seen += [data.step for data in follower.tail().steps]
    assert seen == list(range(60))
    assert follower.trajectories.equals(open_run(tmp_path).trajectories)


def test_step_data_of_a_chosen_step(tmp_path: Path) -> None:
    with Recorder(tmp_path) as rec:
        rec.log_step(4, {"reward": [1.0]}, {"loss": 0.5})
    run = open_run(tmp_path)
    data = run.step_data(4)
    assert data is not None
    assert data.scalars == {"loss": 0.5}
    assert run.step_data(5) is None
