"""Old steps without their rows: what was measured of them stands, and what is gone is said."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmhealth import Recorder, open_run
from mmhealth.cli import app, main
from mmhealth.engines import Engine, SerialEngine
from mmhealth.errors import RetentionBusyError, RetentionError, RunUnavailableError
from mmhealth.estimators.sketch import ALPHA
from mmhealth.health import Monitor, default_policy, stepcache, windows
from mmhealth.health.blame import blame
from mmhealth.health.contribution import step_contribution
from mmhealth.health.diagnosis import MODES, diagnose
from mmhealth.health.needs import ALL, columns_of
from mmhealth.health.timeline import Timeline, build_timeline
from mmhealth.health.whatif import what_if
from mmhealth.retention import (
    Keep,
    course_of_quantiles,
    reduce_run,
    step_sketch,
    step_sketches,
)
from mmhealth.runlog import compact, seal_orphans
from mmhealth.runlog.reducing import write_summaries
from mmhealth.runlog.rewriting import rewriting

STEPS = 30
KEEP = Keep(8)
GONE = STEPS - KEEP.steps


def write(path: Path, batch: Any, steps: range = range(STEPS), **more: Any) -> None:
    settings = {"segment_bytes": 20_000, "nominal_batch": 64} | more
    with Recorder(path, **settings) as rec:
        for step in steps:
            rec.log_step(step, batch(step), {"loss": float(step)})
            if step % 10 == 0:
                rec.log_evaluation(step, episodes=10, successes=step % 7)
                rec.amend(step, 3, "reward", 5.0, arrived_step=step + 1)


@pytest.fixture
def run_dir(tmp_path: Path, batch: Any) -> Path:
    write(tmp_path / "run", batch)
    return tmp_path / "run"


def measured(path: Path) -> Timeline:
    timeline = Timeline(open_run(path), default_policy().demanded)
    timeline.update()
    return timeline


def wait_for_amendments(path: Path, number: int) -> None:
    run = open_run(path)
    while len(run.amendments) < number:
        run.refresh()


def forget_readings(path: Path, count: int) -> None:
    """Make the summaries of the first steps such as versions wrote that kept no readings."""
    for file in sorted((path / "reduced").iterdir()):
        rows = pq.read_table(file).to_pylist()
        file.unlink()
        for row in rows:
            held = json.loads(row["metrics"])
            if row["step"] < count:
                assert held.pop("reading")
            row["metrics"] = json.dumps(held)
        write_summaries(path, rows)


def size(path: Path) -> int:
    tables = ("trajectories", "updates")
    return sum(f.stat().st_size for table in tables for f in (path / table).iterdir())


def test_the_timeline_is_bit_for_bit_what_it_was(run_dir: Path) -> None:
    before = measured(run_dir)
    done = reduce_run(run_dir, KEEP)
    assert done.steps == list(range(GONE))
    assert done.rows == 2 * 64 * GONE
    after = measured(run_dir)
    assert after.lived == before.lived
    assert after.frame.equals(before.frame)
    assert after.updates.equals(before.updates)
    assert after.sources.equals(before.sources)


def test_rows_of_kept_steps_stay_and_others_go(run_dir: Path) -> None:
    before, bytes_before = open_run(run_dir), size(run_dir)
    done = reduce_run(run_dir, KEEP)
    after = open_run(run_dir)
    assert size(run_dir) == bytes_before - done.bytes_freed
    assert size(run_dir) < 0.6 * bytes_before
    for table in ("trajectories", "updates"):
        kept = getattr(before, table).filter(pl.col("step") >= GONE)
        assert getattr(after, table).equals(kept)
    for table in ("steps", "evaluations", "amendments", "events"):
        assert getattr(after, table).equals(getattr(before, table))
    data = after.require_step(3)
    assert data.complete
    assert data.rows_missing == 0
    assert data.trajectories.is_empty()
    assert data.reduced is not None
    assert (data.reduced.trajectories, data.reduced.updates) == (64, 64)


def test_the_status_says_which_steps_are_reduced_and_that_nothing_is_lost(run_dir: Path) -> None:
    before = open_run(run_dir).status()
    reduce_run(run_dir, KEEP)
    status = open_run(run_dir).status()
    assert not status.data_lost
    assert status.describe_losses() == []
    assert status.steps_complete == before.steps_complete == STEPS
    assert (status.steps_reduced, status.rows_reduced) == (GONE, 64 * GONE)
    assert status.rows_read == status.rows_present == 64 * KEEP.steps
    said = status.describe_reduction()
    assert said is not None
    assert f"steps 0 to {GONE - 1}" in said
    assert before.describe_reduction() is None


def test_alerts_and_verdicts_are_the_same(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "sample_logs" / "collapsing"
    shutil.copytree(sample, tmp_path / "run")
    runner = CliRunner()

    def audit() -> Any:
        said = json.loads(
            runner.invoke(app, ["audit", str(tmp_path / "run"), "--format", "json"]).stdout
        )
        return said["runs"][0]

    before = audit()
    reduce_run(tmp_path / "run", Keep(10))
    after = audit()
    differ = {key for key in before if before[key] != after[key]}
    assert differ == {"summary", "diagnosis", "evidence", "data"}, "what speaks of rows"
    assert after["data"]["steps_reduced"] == 150


def test_the_basis_stays_fixed_by_a_step_that_is_reduced(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", segment_bytes=4_000) as rec:
        for step in range(STEPS):
            rows = batch(step)
            if step != 2:
                del rows["log_weight"]
            rec.log_step(step, rows)
    before = measured(tmp_path / "run")
    reduce_run(tmp_path / "run", KEEP)
    after = measured(tmp_path / "run")
    assert "another basis" in str(before.reason(STEPS - 1, "ess_signal"))
    assert after.lived == before.lived


def test_hidden_steps_are_reduced_like_visible_ones(tmp_path: Path, batch: Any) -> None:
    write(tmp_path / "run", batch)
    write(tmp_path / "run", batch, range(15, 2 * STEPS), attempt=1)
    before = measured(tmp_path / "run")
    reduce_run(tmp_path / "run", KEEP)
    assert measured(tmp_path / "run").lived == before.lived
    run = open_run(tmp_path / "run")
    assert run.trajectories["step"].min() == 2 * STEPS - KEEP.steps
    assert not run.status().data_lost
    assert not list((tmp_path / "run" / "updates").glob("0-0-*.parquet"))


def test_several_ranks_are_reduced_together(tmp_path: Path, batch: Any) -> None:
    for rank in (0, 1):
        write(tmp_path / "run", batch, rank=rank, world_size=2, attempt=0)
    before = measured(tmp_path / "run")
    done = reduce_run(tmp_path / "run", KEEP)
    assert done.rows == 2 * 2 * 64 * GONE
    assert measured(tmp_path / "run").lived == before.lived


def test_a_step_that_is_not_complete_keeps_its_rows(tmp_path: Path, batch: Any) -> None:
    write(tmp_path / "run", batch, rank=0, world_size=2, attempt=0)
    write(tmp_path / "run", batch, range(5, STEPS), rank=1, world_size=2, attempt=0)
    done = reduce_run(tmp_path / "run", KEEP)
    assert done.incomplete == 5
    assert done.steps == list(range(5, GONE))
    assert open_run(tmp_path / "run").require_step(0).trajectories.height == 64


def test_steps_that_wait_for_rewards_stay_for_twice_as_long(tmp_path: Path, batch: Any) -> None:
    rec = Recorder(tmp_path / "run", segment_bytes=4_000)
    for step in range(STEPS):
        rows = batch(step)
        rows["reward"] = np.ma.masked_array(rows["reward"], np.arange(64) == 5)
        rec.log_step(step, rows)
    rec.amend(GONE - 1, 5, "reward", 1.0, arrived_step=STEPS)
    rec.amend(GONE - 2, 4, "reward", 1.0, arrived_step=STEPS)
    wait_for_amendments(tmp_path / "run", 2)
    done = reduce_run(tmp_path / "run", KEEP)
    assert done.steps == [*range(STEPS - 2 * KEEP.steps), GONE - 1]
    assert done.pending == KEEP.steps - 1
    rec.close()
    assert reduce_run(tmp_path / "run", KEEP).pending == 0


def test_steps_without_any_reward_yet_wait_for_them(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", segment_bytes=4_000) as rec:
        for step in range(STEPS):
            rows = batch(step)
            del rows["reward"]
            rec.log_step(step, rows)
        done = reduce_run(tmp_path / "run", KEEP)
    assert done.steps == list(range(STEPS - 2 * KEEP.steps))
    assert done.pending == KEEP.steps


def test_nothing_is_reduced_while_late_values_cannot_be_read(run_dir: Path) -> None:
    before = measured(run_dir)
    [segment] = (run_dir / "amendments").iterdir()
    aside = segment.rename(run_dir.parent / segment.name)
    segment.symlink_to(segment)
    with pytest.raises(RunUnavailableError, match=rf"amendments/{segment.name}: .*just now"):
        reduce_run(run_dir, KEEP)
    aside.rename(segment)
    assert reduce_run(run_dir, KEEP).steps == list(range(GONE))
    assert measured(run_dir).lived == before.lived


def test_what_was_lost_before_a_reduction_is_still_told_after_it(
    tmp_path: Path, batch: Any
) -> None:
    place = tmp_path / "run"
    with Recorder(place, segment_bytes=1) as rec:
        for step in range(9):
            rec.log_step(step, batch(step))
        rec.amend(2, 999, "reward", 1.0, arrived_step=3)
    (about,) = (place / "writers").iterdir()
    content = json.loads(about.read_text())
    about.write_text(json.dumps(content | {"closed": False, "last_seq": {}}))
    for table in ("trajectories", "updates", "steps"):
        for segment in (place / table).glob("0-0-000000004-*"):
            segment.unlink()
    write(place, batch, range(9, STEPS), attempt=1)
    before = open_run(place).status()
    assert (before.batches_missing, before.amendments_unmatched) == (3, 1)
    assert reduce_run(place, KEEP).steps == [*range(4), *range(5, GONE)]
    after = open_run(place).status()
    assert (after.batches_missing, after.amendments_unmatched) == (3, 1)


def test_late_values_that_came_in_time_count_and_later_ones_are_shown(
    tmp_path: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "run", segment_bytes=4_000) as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step))
        rec.amend(3, 5, "reward", 100.0, arrived_step=9)
    before = measured(tmp_path / "run")
    reduce_run(tmp_path / "run", KEEP)
    assert not open_run(tmp_path / "run").status().data_lost
    with Recorder(tmp_path / "run", attempt=0, rejoin=True) as rec:
        rec.amend(3, 6, "reward", 100.0, arrived_step=STEPS)
    assert measured(tmp_path / "run").lived == before.lived
    status = open_run(tmp_path / "run").status()
    assert status.amendments_after_reduction == 1
    assert status.amendments_unmatched == 0
    assert "came after their step was reduced" in " ".join(status.describe_losses())


def test_what_a_summary_does_not_hold_is_not_known_for_that_reason(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    asked = ("ess_signal", 0.123)
    timeline = Timeline(open_run(run_dir), [asked])
    timeline.update()
    found = [metrics.intervals[asked] for _, metrics in timeline.visible()]
    assert all(isinstance(why, str) and "rows were reduced on" in why for why in found[:GONE])
    assert not any(isinstance(interval, str) for interval in found[GONE:])


def test_some_metrics_alone_are_those_of_a_full_timeline(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    names = ["ess_signal", "reward", "ess_signal_nominal"]
    alone, whole = build_timeline(open_run(run_dir), names), build_timeline(open_run(run_dir))
    assert alone.frame.equals(whole.frame.select(alone.frame.columns))


def test_a_live_monitor_reads_on_while_rows_go(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", segment_bytes=4_000) as rec:
        monitor = Monitor(tmp_path / "run")
        for step in range(2 * STEPS):
            rec.log_step(step, batch(step, mixed=1 - step / 60))
            if step % 7 == 0:
                monitor.poll()
            if step % 10 == 9:
                reduce_run(tmp_path / "run", KEEP)
    monitor.poll()
    fresh = Monitor(tmp_path / "run")
    fresh.poll()
    assert monitor.timeline.frame.equals(fresh.timeline.frame)
    assert monitor.alerts == fresh.alerts
    assert monitor.run.trajectories.equals(fresh.run.trajectories)
    assert not monitor.run.status().data_lost


def test_readers_in_the_middle_of_a_pass_go_on(run_dir: Path) -> None:
    seen = []
    for number, data in enumerate(open_run(run_dir).tail()):
        if number == 2:
            reduce_run(run_dir, KEEP)
        assert data.complete
        assert data.reduced is not None or len(data.trajectories) == 64
        seen.append(data.step)
    assert seen == list(range(STEPS))


@pytest.mark.parametrize("engine", [None, SerialEngine()])
def test_steps_that_are_reduced_in_the_middle_of_a_pass_have_their_metrics(
    run_dir: Path, tmp_path: Path, engine: Engine | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW_ROWS", 300)
    monkeypatch.setattr(stepcache, "WORTH_S", 0)
    backup = open_run(shutil.copytree(run_dir, tmp_path / "backup"))
    run = open_run(run_dir)
    columns = columns_of(ALL, run.loss_ratio)
    measure = windows.Measure(run.loss_ratio, default_policy().demanded, None, columns)
    before = dict(measure.steps(backup.tail(), None))
    cache = stepcache.StepCache(tmp_path / "cache", "question")
    found = {}
    for key, metrics in measure.steps(run.tail(), engine, cache):
        found[key] = metrics
        if len(found) == 3:
            reduce_run(run_dir, KEEP)
    assert found == before
    cache.save(1.0)
    known = stepcache.StepCache(tmp_path / "cache", "question")
    assert dict(measure.steps(open_run(backup.path).tail(), None, known)) == before


def test_a_reader_that_held_rows_does_not_miss_them(run_dir: Path) -> None:
    reader = open_run(run_dir)
    before = reader.trajectories
    reduce_run(run_dir, KEEP)
    assert reader.require_step(2).reduced is not None
    assert not reader.status().data_lost
    reader.refresh()
    assert reader.trajectories.equals(before.filter(pl.col("step") >= GONE))


def test_rows_in_an_open_tail_stay_until_it_is_sealed(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run") as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step))
        before = measured(tmp_path / "run")
        assert reduce_run(tmp_path / "run", KEEP).bytes_freed == 0
        assert measured(tmp_path / "run").lived == before.lived
    done = reduce_run(tmp_path / "run", KEEP)
    assert done.steps == []
    assert done.bytes_freed > 0
    assert measured(tmp_path / "run").lived == before.lived


def test_a_run_goes_on_after_it_was_reduced(run_dir: Path, batch: Any) -> None:
    reduce_run(run_dir, KEEP)
    write(run_dir, batch, range(STEPS, STEPS + 5), attempt=1)
    run = open_run(run_dir)
    assert not run.status().data_lost
    assert run.status().steps_complete == STEPS + 5
    done = reduce_run(run_dir, KEEP)
    assert done.steps == list(range(GONE, GONE + 5))


def test_a_rejoined_writer_goes_on_behind_its_numbers(run_dir: Path, batch: Any) -> None:
    reduce_run(run_dir, Keep(1))
    with Recorder(run_dir, attempt=0, rejoin=True, segment_bytes=4_000) as rec:
        for step in range(STEPS, STEPS + 3):
            rec.log_step(step, batch(step))
    status = open_run(run_dir).status()
    assert status.steps_complete == STEPS + 3
    assert not status.data_lost


def test_compaction_and_reduction_in_turn(run_dir: Path) -> None:
    before = measured(run_dir)
    reduce_run(run_dir, Keep(20))
    compact(run_dir)
    reduce_run(run_dir, KEEP)
    compact(run_dir)
    assert measured(run_dir).lived == before.lived
    assert not open_run(run_dir).status().data_lost
    assert len(list((run_dir / "updates").glob("*.parquet"))) == 1


def test_halves_of_segments_that_a_kill_left_are_removed(run_dir: Path) -> None:
    left = run_dir / "updates" / ".0-0-000000020-1-00000000.parquet"
    left.write_bytes(b"half")
    with rewriting(run_dir, alone=True), pytest.raises(RetentionBusyError):
        reduce_run(run_dir, KEEP)
    assert left.exists()
    reduce_run(run_dir, KEEP)
    assert not left.exists()


def test_a_big_segment_can_wait_until_most_of_it_goes(run_dir: Path) -> None:
    compact(run_dir)
    done = reduce_run(run_dir, Keep(20), least_share=0.5)
    assert (done.segments_waiting, done.bytes_freed) == (2, 0)
    assert len(done.steps) == STEPS - 20
    assert reduce_run(run_dir, KEEP, least_share=0.5).segments_rewritten == 2


def test_one_at_a_time_rewrites_segments(run_dir: Path) -> None:
    with rewriting(run_dir, alone=False), pytest.raises(RetentionBusyError, match="try again"):
        reduce_run(run_dir, KEEP)
    with rewriting(run_dir, alone=True):
        assert compact(run_dir).busy
    assert reduce_run(run_dir, KEEP).steps


def test_a_damaged_summary_is_named_and_the_loss_is_shown(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    [summary] = (run_dir / "reduced").iterdir()
    content = bytearray(summary.read_bytes())
    content[len(content) // 2] ^= 1
    summary.write_bytes(bytes(content))
    status = open_run(run_dir).status()
    assert [item.file for item in status.quarantined] == [f"reduced/{summary.name}"]
    assert status.data_lost
    assert len(status.incomplete) == GONE
    assert status.steps_reduced == 0


def test_a_summary_that_goes_while_a_reader_is_at_work_is_named(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    run = open_run(run_dir)
    shutil.rmtree(run_dir / "reduced")
    timeline = build_timeline(run)
    assert not timeline.frame["complete"][:GONE].any()
    assert run.status().data_lost


def test_sketches_tell_quantiles_of_columns_that_are_gone(run_dir: Path) -> None:
    rows = open_run(run_dir).require_step(4).updates["log_weight"]
    reduce_run(run_dir, KEEP)
    run = open_run(run_dir)
    found = step_sketch(run, 4, "updates.log_weight")
    assert found.count == 64
    for q in (0.05, 0.5, 0.95):
        exact = np.quantile(rows.to_numpy(), q, method="lower")
        assert found.quantile(q) == pytest.approx(exact, rel=ALPHA + 1e-9)
    assert {"trajectories.reward", "trajectories.success"} <= step_sketches(run, 4).keys()
    with pytest.raises(RetentionError, match=r"updates\.log_weight"):
        step_sketch(run, 4, "updates.nothing")
    with pytest.raises(RetentionError, match="has no summary"):
        step_sketches(run, STEPS - 1)


def test_whatever_reads_rows_says_that_they_are_gone(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    run = open_run(run_dir)
    assert "rows were reduced on" in str(blame(run, [2]).reason)
    assert "rows were reduced on" in step_contribution(run.require_step(2), "sequence").describe()
    assert set(what_if(run, [2]).reasons.values()) == {run.reduced_steps()[2].reason}
    both = what_if(run, [2, STEPS - 1])
    assert both.steps == (STEPS - 1,)
    assert any("step 2: rows were reduced on" in note for note in both.notes)
    said = diagnose(run)
    assert f"those of {GONE} steps were reduced" in said.insufficient["gradient domination"]
    assert run.complete_steps() == list(range(GONE, STEPS))


@pytest.mark.parametrize("sample", ["collapsing", "fixed"])
def test_the_diagnosis_is_what_it_was(sample: str, tmp_path: Path) -> None:
    run_dir = shutil.copytree(Path("sample_logs") / sample, tmp_path / "run")
    before = diagnose(open_run(run_dir))
    reduce_run(run_dir, KEEP)
    after = diagnose(open_run(run_dir))
    assert (after.findings, after.borderline) == (before.findings, before.borderline)
    lost = set(before.ruled_out) - set(after.ruled_out)
    assert lost <= {"gradient domination"}
    assert after.insufficient.keys() == before.insufficient.keys() | lost


@pytest.mark.parametrize("old", [GONE, 1])
def test_summaries_from_before_readings_were_kept_say_that_the_rows_are_gone(
    old: int, run_dir: Path
) -> None:
    reduce_run(run_dir, KEEP)
    frame = measured(run_dir).frame
    forget_readings(run_dir, old)
    assert measured(run_dir).frame.equals(frame)
    assert open_run(run_dir).status().describe_losses() == []
    said = diagnose(open_run(run_dir))
    gone = f"it is read from rows, and those of {old} steps were reduced"
    unjudged = {name for name, why in said.insufficient.items() if why == gone}
    assert unjudged == set(MODES) - {"non-finite values", "resume fault"}


def test_nothing_is_reduced_of_a_run_no_longer_than_what_is_kept(run_dir: Path) -> None:
    assert reduce_run(run_dir, Keep(STEPS)).steps == []
    assert reduce_run(run_dir, Keep(1, days=1)).steps == []
    assert not (run_dir / "reduced").exists()


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RetentionError, match="less than 1"):
        Keep(0)
    with pytest.raises(RetentionError, match="days"):
        Keep(1, float("nan"))
    with pytest.raises(RetentionError, match="object store"):
        reduce_run("s3://bucket/run", KEEP)


def test_the_command_says_what_it_did(run_dir: Path) -> None:
    runner = CliRunner()
    would = runner.invoke(app, ["retain", str(run_dir), "--keep-steps", "8", "--dry-run"])
    assert would.output.startswith(f"{run_dir}: would reduce {GONE} steps (0 to {GONE - 1})")
    assert open_run(run_dir).status().steps_reduced == 0
    did = runner.invoke(app, ["retain", str(run_dir), "--keep-steps", "8", "--json"])
    assert json.loads(did.output)["steps"] == list(range(GONE))
    both = runner.invoke(app, ["retain", str(run_dir), "--keep-steps", "8", "--every", "1"])
    assert both.exit_code == 0, both.output
    audit = runner.invoke(app, ["audit", str(run_dir)])
    assert f"{GONE} steps are reduced" in " ".join(audit.output.split())


def test_sealing_again_brings_back_nothing(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    assert seal_orphans(run_dir) == []
    assert open_run(run_dir).status().steps_reduced == GONE


def test_quantiles_are_the_same_whether_rows_are_there_or_not(run_dir: Path) -> None:
    runner = CliRunner()

    def ask(*more: str) -> Any:
        return runner.invoke(app, ["quantiles", str(run_dir), "updates.log_weight", *more])

    before = json.loads(ask("--json", "--last", "99").stdout)["steps"]
    reduce_run(run_dir, KEEP)
    after = json.loads(ask("--json", "--last", "99").stdout)["steps"]
    assert [item["reduced"] for item in after] == [step < GONE for step in range(STEPS)]
    assert before == [item | {"reduced": False} for item in after]
    assert ask("--q", "0.5").stdout.splitlines()[0] == "step,reduced,count,0.5"
    none = runner.invoke(app, ["quantiles", str(run_dir), "updates.nothing"])
    assert isinstance(none.exception, RetentionError)
    assert runner.invoke(app, ["quantiles", str(run_dir), "log_weight"]).exit_code == 2


def test_quantiles_leave_a_reader_as_it_was_and_know_what_was_reduced_meanwhile(
    run_dir: Path,
) -> None:
    run = open_run(run_dir)
    before = course_of_quantiles(open_run(run_dir), "updates.log_weight", [0.5], STEPS)
    reduce_run(run_dir, KEEP)
    after = course_of_quantiles(run, "updates.log_weight", [0.5], STEPS)
    assert [item["reduced"] for item in after] == [step < GONE for step in range(STEPS)]
    assert [item | {"reduced": False} for item in after] == before
    assert len(build_timeline(run).lived) == STEPS


def test_what_is_no_summary_is_named_and_the_run_is_read(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    (run_dir / "reduced" / "0-9-0000abcd.parquet").mkdir()
    status = open_run(run_dir).status()
    assert [item.file for item in status.quarantined] == ["reduced/0-9-0000abcd.parquet"]
    assert status.steps_reduced == GONE


def test_what_reduced_steps_have_in_common_is_held_once(run_dir: Path) -> None:
    reduce_run(run_dir, KEEP)
    steps = open_run(run_dir).reduced_steps()
    assert len({id(step.logged) for step in steps}) == len({step.logged for step in steps})


def test_rows_of_steps_that_stay_are_not_read(run_dir: Path) -> None:
    run = open_run(run_dir)
    tables = ("trajectories", "updates")
    held = {file: file.read_bytes() for table in tables for file in (run_dir / table).iterdir()}
    for file in held:
        file.write_bytes(b"")
    assert reduce_run(run, Keep(1, days=1)).steps == []
    assert reduce_run(run, Keep(1), least_steps=STEPS).steps == []
    for file, content in held.items():
        file.write_bytes(content)
    assert run.status().describe_losses() == []


def test_one_open_run_is_reduced_again_and_again(run_dir: Path, batch: Any) -> None:
    run = open_run(run_dir)
    assert reduce_run(run, KEEP).steps == list(range(GONE))
    write(run_dir, batch, range(STEPS, STEPS + 5), attempt=1)
    assert reduce_run(run, KEEP).steps == list(range(GONE, GONE + 5))
    assert reduce_run(run, KEEP).steps == []
    assert not run.status().data_lost


def test_a_child_that_outlives_a_rewriting_does_not_hold_the_run(run_dir: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from mmhealth.runlog.rewriting import rewriting

reading, writing = os.pipe()
with rewriting(Path(sys.argv[1]), alone=True) as held:
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
with rewriting(Path(sys.argv[1]), alone=True) as again:
    print(held, again)
os.close(writing)
os.waitpid(child, 0)
"""
    command = [sys.executable, "-c", script, str(run_dir)]
    assert subprocess.check_output(command, text=True) == "True True\n"


def test_what_hinders_a_reduction_is_said(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "reduced").write_text("not a folder")
    with pytest.raises(SystemExit, match="3"):
        main(["retain", str(run_dir), "--keep-steps", "8"])
    said = capsys.readouterr().err
    assert "reduced" in said
    assert said.endswith("Nothing is lost: run the command again\n")
    assert not open_run(run_dir).status().data_lost
