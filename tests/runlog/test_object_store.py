"""Reading a run at a URL of a real S3 server, which fails in the ways that such servers do."""

import itertools
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from mmhealth import Recorder, open_run
from mmhealth.cli import app
from mmhealth.dashboards.watcher import watch_runs
from mmhealth.errors import ObjectStoreError, ObjectStoreRefusedError, RunNotFoundError
from mmhealth.fleet import find_runs, judge_fleet
from mmhealth.health import Monitor, default_policy
from mmhealth.place import RunUrl, run_place
from mmhealth.runlog import Run, remote
from mmhealth.runlog.storage import ObjectStore, Retries
from mmhealth.schema import TABLES

STEPS = 24


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, batch: Any) -> Path:
    """A run of some 20 segments, with late values and a restart."""
    path = tmp_path_factory.mktemp("runs") / "run"
    for attempt, steps in enumerate((range(14), range(10, STEPS))):
        with Recorder(path, segment_bytes=20_000, nominal_batch=64, attempt=attempt) as recorder:
            for step in steps:
                recorder.log_step(step, batch(step))
                if step % 8 == 0:
                    recorder.log_evaluation(step, episodes=10, successes=step % 7)
                    recorder.amend(step, 3, "reward", 5.0, arrived_step=step + 1)
    return path


def content(run: Run) -> dict[str, pl.DataFrame]:
    return {name: getattr(run, name) for name in TABLES}


def same(url: str, run_dir: Path) -> bool:
    remote, local = open_run(url), open_run(run_dir)
    one, other = content(remote), content(local)
    return remote.status() == local.status() and all(one[n].equals(other[n]) for n in TABLES)


def write(content: bytes, stream: Any) -> int:
    return int(stream.write(content))


def key_of(path: Path, run_dir: Path) -> str:
    return str(path.relative_to(run_dir))


def test_a_run_at_a_url_reads_as_on_disk(store: Any, copy_to: Any, run_dir: Path) -> None:
    copy_to(run_dir)
    assert same(store.url, run_dir)
    assert same(Path(store.url), run_dir)  # type: ignore[arg-type]


def test_one_listing_a_poll_and_nothing_more(store: Any, copy_to: Any, run_dir: Path) -> None:
    copy_to(run_dir)
    monitor = Monitor(store.url)
    monitor.poll()
    objects = sum(1 for path in run_dir.rglob("*") if path.is_file())
    assert store.asked("GET") == store.asked("HEAD") == objects
    counted = monitor.run.requests
    assert counted is not None
    assert counted.total == len(store.log)
    store.log.clear()
    for _ in range(5):
        assert monitor.poll() == []
    assert [kind for kind, _ in store.log] == ["LIST"] * 5


def test_of_big_segments_only_ranges_are_fetched(
    store: Any, copy_to: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_to(run_dir)
    monkeypatch.setattr(remote, "WHOLE_BYTES", 2_000)
    assert same(store.url, run_dir)


@pytest.mark.parametrize("whole", [1 << 20, 2_000])
def test_what_fails_for_a_moment_is_fetched_again(
    store: Any, copy_to: Any, run_dir: Path, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", whole)
    copy_to(run_dir)
    faults = itertools.cycle([None, "503", None, "drop", None, None, "slow"])
    store.fault = lambda *_: next(faults)
    assert same(store.url, run_dir)
    assert store.asked("GET") > 20


def test_a_server_that_hangs_is_given_up_and_asked_again(
    store: Any, copy_to: Any, run_dir: Path
) -> None:
    copy_to(run_dir)
    first = iter(["stall"])
    store.fault = lambda kind, _: next(first, None) if kind == "GET" else None
    assert same(store.url, run_dir)


def test_what_cannot_be_fetched_is_told_and_is_no_damage(
    store: Any, copy_to: Any, run_dir: Path
) -> None:
    copy_to(run_dir)
    lost = key_of(sorted((run_dir / "updates").glob("0-1-*"))[0], run_dir)
    store.fault = lambda _, key: "503" if lost in key else None
    run = open_run(store.url)
    status = run.status()
    assert [item.file for item in status.unfetched] == [lost]
    assert status.data_lost
    assert not status.quarantined
    assert "503" in " ".join(status.describe_losses())
    store.fault = lambda *_: None
    assert run.refresh()
    assert run.status() == open_run(run_dir).status()


def test_rows_that_cannot_be_fetched_stop_a_poll_and_the_next_goes_on(
    store: Any, copy_to: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", 2_000)
    copy_to(run_dir)
    monitor = Monitor(store.url)
    store.fault = lambda kind, key: "503" if kind == "GET" and "/updates/" in key else None
    with pytest.raises(ObjectStoreError, match="cannot be fetched"):
        monitor.poll()
    store.fault = lambda *_: None
    monitor.poll()
    expected = Monitor(run_dir)
    expected.poll()
    assert monitor.timeline.frame.equals(expected.timeline.frame)
    assert monitor.alerts == expected.alerts


def test_a_listing_that_lags_loses_nothing(store: Any, copy_to: Any, run_dir: Path) -> None:
    copy_to(run_dir)
    late = [key_of(p, run_dir) for p in sorted((run_dir / "trajectories").glob("0-1-*"))[1:]]
    store.hidden = lambda key: key.endswith(tuple(late))
    run = open_run(store.url)
    assert run.status().batches_missing
    assert not run.status().quarantined
    store.hidden = lambda _: False
    assert run.refresh()
    assert run.status() == open_run(run_dir).status()


def test_an_object_that_is_listed_and_not_there_yet(
    store: Any, copy_to: Any, run_dir: Path
) -> None:
    copy_to(run_dir)
    store.fault = lambda kind, key: "404" if "/steps/0-1" in key and kind != "LIST" else None
    run = open_run(store.url)
    assert run.status().unfetched
    assert not run.status().quarantined
    store.fault = lambda *_: None
    assert run.refresh()
    assert run.status() == open_run(run_dir).status()


def test_an_object_that_is_begun_and_empty_is_not_there_yet(
    store: Any, copy_to: Any, run_dir: Path, tmp_path: Path
) -> None:
    begun = shutil.copytree(run_dir, tmp_path / "run")
    late = [sorted((run_dir / table).iterdir())[-1] for table in ("steps", "updates", "writers")]
    for path in late:
        (begun / path.relative_to(run_dir)).write_bytes(b"")
    copy_to(begun)
    run = open_run(store.url)
    assert run.status().steps_complete < STEPS
    assert not run.status().quarantined
    there = run_place(store.url)
    assert isinstance(there, RunUrl)
    for path in late:
        content = path.read_bytes()
        ObjectStore(there).write(key_of(path, run_dir), partial(write, content))
    assert run.refresh()
    assert run.status() == open_run(run_dir).status()


def test_a_run_whose_description_is_empty_is_not_there_yet(
    store: Any, copy_to: Any, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_bytes(b"")
    copy_to(tmp_path)
    with pytest.raises(RunNotFoundError):
        open_run(store.url)


@pytest.mark.parametrize("whole", [1 << 20, 2_000])
def test_a_flipped_bit_is_damage(
    store: Any, copy_to: Any, run_dir: Path, tmp_path: Path, batch: Any, whole: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(remote, "WHOLE_BYTES", whole)
    with Recorder(tmp_path / "run") as recorder:
        for step in range(4):
            recorder.log_step(step, batch(step))
    [segment] = (tmp_path / "run" / "updates").glob("*.parquet")
    flipped = bytearray(segment.read_bytes())
    flipped[100] ^= 4
    segment.write_bytes(flipped)
    copy_to(tmp_path / "run")
    run = open_run(store.url)
    assert run.updates.is_empty()
    assert [item.file for item in run.status().quarantined] == [f"updates/{segment.name}"]


def test_no_run_no_bucket_no_credentials(store: Any) -> None:
    with pytest.raises(RunNotFoundError, match=r"run\.json"):
        open_run(store.url)
    with pytest.raises((ObjectStoreRefusedError, RunNotFoundError), match="nobucket"):
        open_run("s3://nobucket/run")
    store.fault = lambda *_: "403"
    with pytest.raises(ObjectStoreRefusedError, match="credentials"):
        open_run(store.url)


def test_commands_take_urls(store: Any, copy_to: Any, run_dir: Path) -> None:
    copy_to(run_dir)
    runner = CliRunner()
    for command in ("audit", "gate", "diagnose"):
        here = runner.invoke(app, [command, str(run_dir)])
        there = runner.invoke(app, [command, store.url])
        assert there.exit_code == here.exit_code, there.output
        assert there.output.splitlines()[-1] == here.output.splitlines()[-1]
    held = runner.invoke(app, ["gate", "--baseline", store.url, store.url])
    here = runner.invoke(app, ["gate", "--baseline", str(run_dir), str(run_dir)])
    assert held.exit_code == here.exit_code
    assert (
        held.output.splitlines()[-1].replace(store.url, str(run_dir))
        == here.output.splitlines()[-1]
    )
    assert runner.invoke(app, ["gate", "s3://bucket"]).exit_code == 2
    assert "s3:/" in runner.invoke(app, ["gate", "--format", "json", store.url]).output


def test_a_fleet_is_found_by_patterns_of_urls(store: Any, copy_to: Any, run_dir: Path) -> None:
    copy_to(run_dir)
    base, _, query = store.url.partition("?")
    above, home = base.rsplit("/", 1)[0], base.rsplit("/", 2)[0]
    for pattern in (base, f"{above}/*", f"{above}/[q-s]un", f"{above}/**", f"{home}/*/run"):
        [found] = [f for f in find_runs([f"{pattern}?{query}"]) if str(f) == store.url]
        assert str(found) == store.url, pattern
    [run] = judge_fleet([f"{above}/*?{query}"]).runs
    [here] = judge_fleet([run_dir]).runs
    assert (run.path, run.verdict, run.worst) == (store.url, here.verdict, here.worst)
    with pytest.raises(RunNotFoundError, match="no run directory matches"):
        find_runs([f"{above}/x*?{query}"])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("az://container/run", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("gs://bucket/run?endpoint=x", "not known"),
        ("s3://bucket/run?connect_timeout=soon", "seconds"),
        ("s3://key:secret@bucket/run", "environment"),
        ("gs://bucket", "names no run"),
    ],
)
def test_urls_that_make_no_sense_say_why(
    url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises((ObjectStoreError, RunNotFoundError), match=says):
        open_run(url)


@pytest.mark.parametrize("url", ["gs://bucket/run?scheme=http&endpoint_override=127.0.0.1:1",
                                 "az://container/run?account_name=a&blob_storage_scheme=http"
                                 "&blob_storage_authority=127.0.0.1:1"])  # fmt: skip
def test_stores_that_cannot_be_reached_do_not_hang(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    once = partial(Retries, tries=1)
    monkeypatch.setattr("mmhealth.runlog.storage.objects.Retries", once)
    monkeypatch.setattr("mmhealth.runlog.storage.connect._GCS_LIMIT_S", 1.0)
    began = time.monotonic()
    with pytest.raises(ObjectStoreError, match=r"bucket|container"):
        open_run(url)
    assert time.monotonic() - began < 60  # the libraries try some times themselves


def test_urls_are_read_however_they_were_written() -> None:
    url = RunUrl("s3", "bucket/a/run", "region=x")
    for text in ("s3://bucket/a/run?region=x", "s3:/bucket/a/run?region=x", Path(str(url))):
        assert run_place(text) == url
    assert run_place(str(url)) == url
    assert run_place("runs/s3") == Path("runs/s3")
    assert url.name == "run"
    assert url.options == {"region": "x"}


def test_the_dashboard_watches_a_url_and_waits_for_one(
    store: Any, copy_to: Any, run_dir: Path
) -> None:
    [watcher] = watch_runs([run_place(store.url)], default_policy(), autostart=False)
    watcher.poll()
    assert (watcher.name, watcher.snapshot.state) == ("run", "waiting")
    copy_to(run_dir)
    watcher.poll()
    assert watcher.snapshot.state == "watching"
    assert watcher.snapshot.view.timeline.height == STEPS
    store.fault = lambda *_: "503"
    watcher.poll()
    assert watcher.snapshot.view.timeline.height == STEPS
    store.fault = lambda *_: None
    watcher.poll()
    assert watcher.snapshot.state == "watching"
