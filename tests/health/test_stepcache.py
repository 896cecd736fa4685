"""Steps that were measured before are found by their content, and by nothing else."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.engines import Progress, SerialEngine
from mmhealth.health import Monitor, stepcache
from mmhealth.health.policy import parse_policy
from mmhealth.health.timeline import Timeline
from mmhealth.runlog import compact


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepcache, "WORTH_S", 0.0)


class Counting(SerialEngine):
    """Counts the steps that are measured."""

    steps = 0

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        told: Progress | None = None,
    ) -> Iterator[Any]:
        for task in tasks:
            self.steps += len(task.sources)
            yield from super().map(function, [task], told)


def measured(path: Path, cache: Path, **more: Any) -> int:
    """How many steps had to be measured; what came out is what comes out without a cache."""
    engine = Counting()
    timeline = Timeline(open_run(path), engine=engine, cache=cache, **more)
    timeline.update()
    fresh = Timeline(open_run(path), **more)
    fresh.update()
    assert timeline.frame.equals(fresh.frame)
    assert timeline.lived == fresh.lived
    return engine.steps


def record(path: Path, batch: Any, steps: range, **more: Any) -> None:
    with Recorder(path, nominal_batch=64, segment_bytes=20_000, **more) as recorder:
        for step in steps:
            recorder.log_step(step, batch(step, mixed=0.5), {"loss": 0.25 * step})


@pytest.mark.parametrize("readings", [False, True])
def test_a_run_that_grew_is_measured_where_it_is_new(
    tmp_path: Path, batch: Any, readings: bool
) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    record(path, batch, range(30))
    assert measured(path, cache, readings=readings) == 30
    assert measured(path, cache, readings=readings) == 0
    record(path, batch, range(30, 36))
    assert measured(path, cache, readings=readings) == 6
    record(path, batch, range(33, 34))
    assert measured(path, cache, readings=readings) == 1


def test_what_took_no_time_is_not_kept(
    tmp_path: Path, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepcache, "WORTH_S", 1e9)
    record(tmp_path / "run", batch, range(3))
    assert measured(tmp_path / "run", tmp_path / "cache") == 3
    assert not (tmp_path / "cache").exists()


def test_rows_in_an_open_tail_are_not_kept(tmp_path: Path, batch: Any) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    with Recorder(path) as recorder:
        recorder.log_step(0, batch(0))
        assert measured(path, cache) == measured(path, cache) == 1
    assert measured(path, cache) == 1
    assert measured(path, cache) == 0


def test_late_values_another_question_and_other_segments_are_measured(
    tmp_path: Path, batch: Any
) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    record(path, batch, range(12), attempt=0)
    assert measured(path, cache) == 12
    assert measured(path, cache, metrics=["entropy"]) == 12
    with Recorder(path, attempt=1, start_step=9) as recorder:
        recorder.amend(2, 5, "reward", 0.75, arrived_step=3)
    assert measured(path, cache) == 1
    compact(path)
    assert measured(path, cache) == 12
    assert measured(path, cache) == 0


def test_intervals_come_back_as_they_were(tmp_path: Path, batch: Any) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    record(path, batch, range(6))
    text = (
        'version = 1\n[rules.low]\nmetric = "ess_signal"\nseverity = "warning"\nbelow = 0.9\n'
        "demand_interval = 0.9\n"
    )
    policy = parse_policy(text, "test")
    for _ in range(2):
        kept, fresh = Monitor(path, policy, cache=cache), Monitor(path, policy)
        kept.poll()
        fresh.poll()
        assert kept.timeline.lived == fresh.timeline.lived
        assert kept.alerts == fresh.alerts


@pytest.mark.parametrize("harm", ["damaged", "empty", "read only"])
def test_a_cache_that_is_of_no_use_does_no_harm(tmp_path: Path, batch: Any, harm: str) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    record(path, batch, range(4))
    assert measured(path, cache) == 4
    [file] = cache.rglob("*.parquet")
    if harm == "read only":
        cache = tmp_path / "file"
        cache.touch()
    else:
        file.write_bytes(b"" if harm == "empty" else file.read_bytes()[:-20] + bytes(20))
    assert measured(path, cache) == 4


def test_a_step_with_rows_that_could_not_be_read_is_not_kept(tmp_path: Path, batch: Any) -> None:
    path, cache = tmp_path / "run", tmp_path / "cache"
    record(path, batch, range(3))
    timeline = Timeline(run := open_run(path), cache=cache)
    [file] = (path / "updates").glob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)))
    timeline.update()
    assert run.status().quarantined
    file.write_bytes(content)
    assert measured(path, cache) == 3
