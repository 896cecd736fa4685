import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.engines import SerialEngine
from mmhealth.fleet.watch import FleetWatcher
from mmhealth.health import default_policy


class CountingEngine(SerialEngine):
    """Says what it was given to do."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def map(self, function: Any, tasks: Iterable[Any], told: Any = None) -> Iterator[Any]:
        return super().map(function, self._noted(tasks), told)

    def _noted(self, tasks: Iterable[Any]) -> Iterator[Any]:
        for task in tasks:
            self.tasks.append(task.name)
            yield task


@pytest.fixture
def folder(tmp_path: Path, fleet_folder: Path) -> Path:
    shutil.copytree(fleet_folder, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture
def watcher(folder: Path, engine: CountingEngine) -> FleetWatcher:
    return FleetWatcher([str(folder / "**")], default_policy(), engine)


def verdicts(watcher: FleetWatcher) -> dict[str, str]:
    return {row.summary.name: row.summary.verdict for row in watcher.snapshot.rows}


def test_only_runs_whose_files_changed_are_judged_again(
    watcher: FleetWatcher, engine: CountingEngine, folder: Path, batch: Any
) -> None:
    watcher.look()
    assert sorted(engine.tasks) == ["bare", "broken", "collapsing", "healthy", "rescued"]
    assert watcher.snapshot.due == 0
    before = watcher.snapshot
    watcher.look()
    assert watcher.snapshot is before
    assert len(engine.tasks) == 5
    with Recorder(folder / "math" / "healthy", nominal_batch=64, strict=True) as recorder:
        for step in range(30, 50):
            recorder.log_step(step, batch(step, mixed=0.1))
    watcher.look()
    assert engine.tasks[5:] == ["healthy"]
    assert verdicts(watcher)["healthy"] == "critical"
    assert [
        row.summary.name for row in watcher.snapshot.rows if row.revision > before.revision
    ] == ["healthy"]


def test_runs_come_and_go_and_keep_their_numbers(
    watcher: FleetWatcher, folder: Path, record: Callable[..., Path]
) -> None:
    watcher.look()
    numbers = {row.summary.name: row.number for row in watcher.snapshot.rows}
    record(folder / "math" / "another", [1.0] * 3)
    shutil.rmtree(folder / "code")
    watcher.look()
    now = {row.summary.name: row.number for row in watcher.snapshot.rows}
    assert set(now) == {"another", "collapsing", "healthy"}
    assert now["another"] not in numbers.values()
    assert all(numbers[name] == now[name] for name in ("collapsing", "healthy"))
    assert watcher.path(now["another"]) == folder / "math" / "another"
    assert watcher.path(numbers["bare"]) is None


def test_a_pattern_may_match_nothing_yet(tmp_path: Path, record: Callable[..., Path]) -> None:
    watcher = FleetWatcher([str(tmp_path / "later-*")], default_policy(), SerialEngine())
    watcher.look()
    assert watcher.snapshot.message.startswith("waiting: no run directory matches")
    record(tmp_path / "later-1", [1.0] * 3)
    watcher.look()
    assert (watcher.snapshot.message, len(watcher.snapshot.rows)) == ("", 1)


def test_a_path_that_cannot_be_looked_into_stops_no_other(folder: Path) -> None:
    (folder / "notes.txt").write_text("no run", encoding="utf-8")
    given = [str(folder / "math" / "healthy"), str(folder / "notes.txt")]
    watcher = FleetWatcher(given, default_policy(), SerialEngine())
    watcher.look()
    assert verdicts(watcher) == {"healthy": "healthy", "notes.txt": "unreadable"}


def test_a_thread_follows_until_it_is_stopped(watcher: FleetWatcher) -> None:
    watcher.start()
    deadline = time.monotonic() + 30
    while (len(watcher.snapshot.rows) < 5 or watcher.snapshot.due) and time.monotonic() < deadline:
        time.sleep(0.02)
    watcher.stop()
    assert len(watcher.snapshot.rows) == 5
