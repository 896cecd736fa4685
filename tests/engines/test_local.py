"""Processes of this machine: the same results in the same order, whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmhealth.engines import LocalEngine, SerialEngine
from mmhealth.errors import EngineError, RunError
from tests.engines import work


@pytest.fixture(scope="module")
def two() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def await_end(process: int) -> None:
    while is_alive(process):
        time.sleep(0.01)


def test_results_come_in_the_order_of_the_tasks(two: LocalEngine) -> None:
    assert list(two.map(work.stretched, range(20))) == list(range(20))
    assert list(SerialEngine().map(work.stretched, range(5))) == list(range(5))


def test_no_tasks_begin_no_worker() -> None:
    with LocalEngine(2) as engine:
        assert list(engine.map(work.square, [])) == []
        assert not engine._workers


def test_progress_counts_up_to_all_tasks(two: LocalEngine) -> None:
    for engine in (two, SerialEngine()):
        told: list[int] = []
        list(engine.map(work.square, range(10), told.append))
        assert told == sorted(set(told))
        assert told[-1] == 10


def test_tasks_are_not_drawn_far_ahead(two: LocalEngine) -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = two.map(work.square, tasks())
    for taken in range(20):
        next(results)
        assert len(drawn) <= taken + 1 + 2 * two.workers
    results.close()


def test_what_a_task_raises_is_raised(two: LocalEngine) -> None:
    results = two.map(work.picky, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RunError, match="no run 3") as caught:
        next(results)
    assert "In a worker process" in caught.value.__notes__[0]
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_what_cannot_be_pickled_is_an_error_and_no_death(two: LocalEngine) -> None:
    with pytest.raises(EngineError, match="UnwillingError: no way"):
        list(two.map(work.unwilling, [1]))
    with pytest.raises(AttributeError, match="pickle"):
        list(two.map(work.unpicklable, [1]))
    with pytest.raises(AttributeError, match="pickle"):
        list(two.map(lambda number: number, [1]))
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_a_killed_worker_is_replaced_and_its_task_done_again(
    two: LocalEngine, tmp_path: Path
) -> None:
    tasks = [(tmp_path, number) for number in range(12)]
    assert list(two.map(work.mortal, tasks)) == list(range(12))
    assert (tmp_path / "died").exists()


def test_workers_killed_while_idle_are_replaced(two: LocalEngine) -> None:
    workers = set(two.map(work.worker_id, range(8)))
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        await_end(worker)
    assert list(two.map(work.square, range(6))) == [n * n for n in range(6)]
    assert workers.isdisjoint(two.map(work.worker_id, range(8)))


def test_a_task_that_kills_every_worker_is_named(two: LocalEngine) -> None:
    results = two.map(work.lethal, range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(EngineError, match=r"workers died of the task 2; .* killed by SIGKILL"):
        list(results)
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_maps_may_be_taken_in_turns(two: LocalEngine) -> None:
    pairs = zip(two.map(work.square, range(9)), two.map(work.stretched, range(9)), strict=True)
    assert list(pairs) == [(n * n, n) for n in range(9)]


def test_one_that_is_given_up_leaves_nothing_at_work(two: LocalEngine, tmp_path: Path) -> None:
    def tasks() -> Iterator[Path]:
        yield tmp_path
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(two.map(work.marking, tasks()))
    for mark in tmp_path.iterdir():
        await_end(int(mark.name))
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_began_them(tmp_path: Path, blow: signal.Signals) -> None:
    script = (
        "import sys; from pathlib import Path; from mmhealth.engines import LocalEngine\n"
        "from tests.engines import work\n"
        "if __name__ == '__main__':\n"
        "    list(LocalEngine(2).map(work.marking, [Path(sys.argv[1])] * 2))\n"
    )
    file = tmp_path / "script.py"
    file.write_text(script)
    marks = tmp_path / "marks"
    marks.mkdir()
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(file), str(marks)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while len(list(marks.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    if blow is signal.SIGINT:
        os.killpg(process.pid, blow)
    else:
        process.send_signal(blow)
    _, said = process.communicate()
    assert process.returncode
    assert said.count(b"Traceback") == (blow is signal.SIGINT)
    for mark in marks.iterdir():
        await_end(int(mark.name))
