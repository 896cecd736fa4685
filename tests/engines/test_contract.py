"""What every engine does: the same results in the same order, whatever happens to a worker."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmhealth.engines import Engine, LocalEngine, RayEngine, SerialEngine, map_surviving
from mmhealth.errors import EngineError, LostTaskError, RunError
from tests.engines import work

Make = Callable[[], Engine]


def ray_engine() -> Engine:
    return RayEngine(workers=2)


MAKE: dict[str, Make] = {
    "serial": SerialEngine,
    "local": lambda: LocalEngine(2),
    "ray": ray_engine,
}
with_workers = pytest.mark.parametrize("engine", ["local", "ray"], indirect=True)


@pytest.fixture(scope="module", params=MAKE)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "ray":
        pytest.importorskip("ray")
    with MAKE[request.param]() as engine:
        yield engine


def make_another(engine: Engine) -> Engine:
    """Another of the same kind; one of Ray uses the session that is there."""
    return RayEngine(workers=2) if isinstance(engine, RayEngine) else type(engine)()


def test_results_come_in_the_order_of_the_tasks(engine: Engine) -> None:
    assert list(engine.map(work.stretched, range(12))) == list(range(12))
    assert list(engine.map(work.square, [])) == []


def test_progress_counts_up_to_all_tasks(engine: Engine) -> None:
    told: list[int] = []
    list(engine.map(work.square, range(10), told.append))
    assert told == sorted(set(told))
    assert told[-1] == 10


def test_tasks_are_not_drawn_far_ahead(engine: Engine) -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = engine.map(work.square, tasks())
    for taken in range(20):
        next(results)
        assert len(drawn) <= taken + 1 + 2 * engine.workers
    del results
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


def test_maps_may_be_taken_in_turns(engine: Engine) -> None:
    pairs = zip(
        engine.map(work.square, range(9)), engine.map(work.stretched, range(9)), strict=True
    )
    assert list(pairs) == [(n * n, n) for n in range(9)]


def test_what_a_task_raises_is_raised_as_it_is(engine: Engine) -> None:
    results = engine.map(work.picky, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RunError, match="no run 3") as caught:
        next(results)
    assert type(caught.value) is RunError
    if not isinstance(engine, SerialEngine):
        assert "in picky" in caught.value.__notes__[0]
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


def test_what_the_tasks_themselves_raise_is_raised(engine: Engine) -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.map(work.square, tasks()))
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


@with_workers
def test_an_error_that_cannot_be_sent_is_told_with_its_trace(engine: Engine) -> None:
    with pytest.raises(EngineError, match="UnwillingError: no way") as caught:
        list(engine.map(work.unwilling, [1]))
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert "in unwilling" in said
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


@with_workers
def test_a_killed_worker_is_replaced_and_its_task_done_again(
    engine: Engine, tmp_path: Path
) -> None:
    tasks = [(tmp_path, number) for number in range(12)]
    assert list(engine.map(work.mortal, tasks)) == list(range(12))
    assert (tmp_path / "died").exists()


@with_workers
def test_a_task_that_kills_every_worker_is_named(engine: Engine) -> None:
    results = engine.map(work.lethal, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LostTaskError, match="3 workers died of the task 2") as caught:
        list(results)
    assert caught.value.task == 2
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


def test_a_task_that_wants_to_end_the_program_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"task 2 raised SystemExit\('enough'\)"):
        list(engine.map(work.leaving, range(5)))
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


@with_workers
def test_a_task_that_workers_die_of_may_cost_no_other(engine: Engine) -> None:
    told: list[int] = []
    lost = map_surviving(work.lethal, range(5), engine, lambda task, _: -task, told.append)
    assert list(lost) == [0, 1, -2, 3, 4]
    assert told == sorted(set(told))


@with_workers
def test_what_is_given_up_is_not_gone_on_with(engine: Engine, tmp_path: Path) -> None:
    def tasks() -> Iterator[Path]:
        yield tmp_path
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.map(work.marking, tasks()))
    # All workers are free again long before the task would have ended.
    assert list(engine.map(work.square, range(6))) == [n * n for n in range(6)]


@with_workers
def test_an_engine_that_is_closed_too_early_says_so(engine: Engine) -> None:
    another = make_another(engine)
    results = another.map(work.square, range(100))
    assert next(results) == 0
    another.close()
    with pytest.raises(EngineError, match="closed before all results were taken"):
        list(results)
    another.close()
    assert list(engine.map(work.square, range(3))) == [0, 1, 4]


@pytest.mark.parametrize("kind", [LocalEngine, RayEngine])
@pytest.mark.parametrize("workers", [0, -1])
def test_an_engine_without_workers_is_refused(kind: Callable[..., Engine], workers: int) -> None:
    with pytest.raises(EngineError, match=f"at least one worker, not {workers}"):
        kind(workers=workers)
