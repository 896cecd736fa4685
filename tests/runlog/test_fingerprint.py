from pathlib import Path
from typing import Any

from mmhealth import Recorder, open_run
from mmhealth.runlog import recording_attempts
from mmhealth.runlog.fingerprint import fingerprint


def test_a_fingerprint_changes_with_every_step_and_with_nothing_else(
    tmp_path: Path, batch: Any
) -> None:
    run = tmp_path / "run"
    assert fingerprint(run) == ()
    with Recorder(run, strict=True) as recorder:
        seen = {fingerprint(run)}
        for step in range(3):
            recorder.log_step(step, batch(step))
            seen.add(fingerprint(run))
        assert len(seen) == 4
    closed = fingerprint(run)
    assert closed not in seen
    (run / "notes.txt").write_text("not of the run", encoding="utf-8")
    assert open_run(run).steps.height == 3
    assert fingerprint(run) == closed


def test_a_run_is_over_when_the_recorders_of_its_last_attempt_are_closed(
    tmp_path: Path, batch: Any
) -> None:
    run = tmp_path / "run"
    with Recorder(run, strict=True) as recorder:
        recorder.log_step(0, batch(0))
        assert not open_run(run).closed
        assert recording_attempts(run) == [0]
    assert open_run(run).closed
    with Recorder(run, strict=True) as recorder:
        recorder.log_step(1, batch(1))
        assert not open_run(run).closed
        assert recording_attempts(run) == [1]
    assert open_run(run).closed
    (run / "writers" / "0-1.json").write_text("{", encoding="utf-8")
    assert not open_run(run).closed


def test_one_rank_that_goes_on_keeps_a_run_open(tmp_path: Path, batch: Any) -> None:
    ranks = [
        Recorder(tmp_path / "run", rank=rank, world_size=2, attempt=0, strict=True)
        for rank in (0, 1)
    ]
    for recorder in ranks:
        recorder.log_step(0, batch(0))
    ranks[0].close()
    assert not open_run(tmp_path / "run").closed
    ranks[1].close()
    assert open_run(tmp_path / "run").closed
