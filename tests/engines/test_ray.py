"""A real Ray cluster, begun here: the same as other engines, whatever happens to a worker."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.engines import Engine, Progress, RayEngine, SerialEngine
from mmhealth.errors import EngineError, RunError
from mmhealth.health import build_timeline, windows
from tests.engines import work

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def four() -> Iterator[RayEngine]:
    with RayEngine(workers=4) as engine:
        yield engine
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def two(four: RayEngine) -> RayEngine:
    return RayEngine(workers=2)


def test_results_come_in_the_order_of_the_tasks(two: RayEngine) -> None:
    assert two.workers == 2
    told: list[int] = []
    assert list(two.map(work.stretched, range(20), told.append)) == list(range(20))
    assert told == sorted(set(told))
    assert told[-1] == 20
    assert list(two.map(work.square, [])) == []


def test_tasks_are_not_drawn_far_ahead(two: RayEngine) -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = two.map(work.square, tasks())
    for taken in range(10):
        next(results)
        assert len(drawn) <= taken + 1 + 2 * two.workers
    results.close()


def test_what_a_task_raises_is_raised_as_it_is(two: RayEngine) -> None:
    results = two.map(work.picky, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RunError, match="no run 3") as caught:
        next(results)
    assert type(caught.value) is RunError
    assert "In a Ray worker" in caught.value.__notes__[0]


def test_a_killed_worker_is_replaced_and_its_task_done_again(
    two: RayEngine, tmp_path: Path
) -> None:
    tasks = [(tmp_path, number) for number in range(12)]
    assert list(two.map(work.mortal, tasks)) == list(range(12))
    assert (tmp_path / "died").exists()


def test_a_task_that_kills_every_worker_is_named(two: RayEngine) -> None:
    results = two.map(work.lethal, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(EngineError, match="3 workers died of the task 2"):
        list(results)


def test_what_is_given_up_is_not_gone_on_with(two: RayEngine, tmp_path: Path) -> None:
    def tasks() -> Iterator[Path]:
        yield tmp_path
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(two.map(work.marking, tasks()))
    # Both CPUs are free again long before the task would have ended.
    assert list(two.map(work.square, range(6))) == [n * n for n in range(6)]


class Killing(SerialEngine):
    """Another engine, all workers of which are killed when some tasks are done."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.killed = 0

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        told: Progress | None = None,
    ) -> Iterator[Any]:
        workers = set(self.engine.map(work.worker_id, range(8)))
        for done, result in enumerate(self.engine.map(function, tasks, told)):
            if done == 3:
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                        self.killed += 1
            yield result


def test_a_timeline_is_the_same_on_any_number_of_workers_and_when_they_are_killed(
    four: RayEngine, noisy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW_ROWS", 128)
    here = build_timeline(open_run(noisy_run))
    killing = Killing(four)
    for engine in (RayEngine(workers=1), RayEngine(workers=2), four, killing):
        there = build_timeline(open_run(noisy_run), engine=engine)
        assert there.frame.write_csv() == here.frame.write_csv()
        assert there.lived == here.lived
        assert there.updates.equals(here.updates)
    assert killing.killed


def test_a_session_that_others_began_is_used_and_left_alone(two: RayEngine) -> None:
    with RayEngine() as other:
        assert other.workers == 4
        assert list(other.map(work.square, range(3))) == [0, 1, 4]
    assert ray.is_initialized()
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


JOIN = """
import sys
from mmhealth.engines import parse_engine
from mmhealth.errors import EngineError
from tests.engines import work
if __name__ == "__main__":
    try:
        with parse_engine(sys.argv[1]) as engine:
            print(engine.workers, list(engine.map(work.square, range(4))))
    except EngineError as error:
        print(error)
"""


def join(name: str, tmp_path: Path, **environ: str) -> str:
    script = tmp_path / "join.py"
    script.write_text(JOIN)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), name],
        env=os.environ | {"PYTHONPATH": path} | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_cluster_that_others_began_is_joined_and_left_alone(
    two: RayEngine, tmp_path: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    assert join("ray", tmp_path, RAY_ADDRESS=address) == "4 [0, 1, 4, 9]\n"
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_no_cluster_is_an_error(tmp_path: Path, unused_port: int) -> None:
    at_once = {
        "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "0",
        "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "0",
    }
    address = f"ray://127.0.0.1:{unused_port}"
    assert join(address, tmp_path, **at_once).startswith(f"no Ray cluster at {address}: ")


def test_without_ray_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'mmhealth\[ray\]'"):
        RayEngine()
