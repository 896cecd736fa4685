"""A real Ray cluster, begun here: what is Ray's alone; the rest is in test_contract.py."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.engines import Engine, Progress, RayEngine, SerialEngine
from mmhealth.errors import EngineError
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
    address = f"127.0.0.1:{unused_port}"
    said = f"no Ray cluster at {address}: "
    assert join("ray", tmp_path, RAY_ADDRESS=address).startswith(said)
    assert join(f"ray://{address}", tmp_path).startswith(said.replace(address, f"ray://{address}"))


def test_without_ray_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'mmhealth\[ray\]'"):
        RayEngine()
