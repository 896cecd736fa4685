"""Steps measured window by window on an engine are those measured here, to the last bit."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.engines import Engine, LocalEngine, Progress, SerialEngine
from mmhealth.health import Monitor, build_timeline, windows
from mmhealth.health.timeline import Timeline
from mmhealth.runlog import compact

RANKS, STEPS = 3, 24


class Posted(SerialEngine):
    """Hands tasks and results through pickle, as another process would get them."""

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        told: Progress | None = None,
    ) -> Iterator[Any]:
        for task in tasks:
            self.before()
            [result] = super().map(function, [pickle.loads(pickle.dumps(task))], told)
            yield pickle.loads(pickle.dumps(result))

    def before(self) -> None:
        """Called before each task."""


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_ROWS", 1000)


@pytest.fixture
def path(tmp_path: Path, batch: Any) -> Path:
    """A run of three ranks whose steps lie in many segments, with late values and lost rows."""
    path = tmp_path / "run"
    for rank in range(RANKS):
        with Recorder(path, rank=rank, world_size=RANKS, attempt=0, segment_bytes=20_000) as rec:
            for step in range(STEPS):
                if (rank, step) != (1, 7):
                    rec.log_step(step, batch(100 * rank + step, mixed=0.5))
            rec.amend(3, 5, "reward", 0.25, arrived_step=9)
    return path


def assert_same(one: Timeline, other: Timeline) -> None:
    assert one.frame.equals(other.frame)
    assert one.updates.equals(other.updates)
    assert one.sources.equals(other.sources)
    assert one.lived == other.lived


@pytest.mark.parametrize("window", [1, 1000, 1 << 30])
def test_windows_of_any_size_are_the_steps(
    path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(windows, "WINDOW_ROWS", window)
    assert_same(build_timeline(open_run(path), engine=Posted()), build_timeline(open_run(path)))


def test_processes_measure_the_same(path: Path) -> None:
    with LocalEngine(2) as engine:
        beside, here = Monitor(path, engine=engine), Monitor(path)
        assert [a.key for a in beside.poll()] == [a.key for a in here.poll()]
        assert_same(beside.timeline, here.timeline)


def test_a_growing_run_is_measured_on_the_same(tmp_path: Path, batch: Any) -> None:
    live: Timeline | None = None
    with Recorder(tmp_path / "run", segment_bytes=50_000) as rec:
        for step in range(30):
            rec.log_step(step, batch(step))
            live = live or Timeline(open_run(tmp_path / "run"), engine=Posted())
            live.update()
    assert live is not None
    assert_same(live, build_timeline(open_run(tmp_path / "run")))


class Compacting(Posted):
    """Merges the segments of a run after its tasks were made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before(self) -> None:
        compact(self.path)


class Harming(Posted):
    """Destroys a segment after its tasks were made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before(self) -> None:
        victim = sorted((self.path / "updates").glob("1-*.parquet"))[0]
        victim.write_bytes(bytes(victim.stat().st_size))


def test_rows_that_move_meanwhile_are_found(path: Path) -> None:
    expected = build_timeline(open_run(path))
    found = build_timeline(open_run(path), engine=Compacting(path))
    assert_same(found, expected)


def test_rows_that_are_lost_meanwhile_are_told(path: Path) -> None:
    run = open_run(path)
    engine: Engine = Harming(path)
    found = build_timeline(run, engine=engine)
    assert run.status().quarantined
    assert not found.frame["complete"].all()
    assert_same(found, build_timeline(open_run(path)))
