"""Processes of this machine: what is theirs alone; the rest is in test_contract.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmhealth.engines import LocalEngine
from mmhealth.engines.local import available_cores
from mmhealth.errors import EngineError
from tests.engines import work


@pytest.fixture(scope="module")
def two() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def test_workers_get_ready_when_the_engine_is_entered_or_asked() -> None:
    assert list((idle := LocalEngine(2)).map(work.square, [])) == []
    assert not idle._workers
    ready = min(2, available_cores())
    with LocalEngine(2) as engine:
        assert len(engine._workers) == ready
        assert list(engine.map(work.square, [3])) == [9]
        assert len(engine._workers) == ready
    assert not engine._workers


def test_what_cannot_be_pickled_is_an_error_and_no_death(two: LocalEngine) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        list(two.map(work.unpicklable, [1]))
    with pytest.raises(AttributeError, match="pickle"):
        list(two.map(lambda number: number, [1]))
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_workers_killed_while_idle_are_replaced(two: LocalEngine) -> None:
    workers = set(two.map(work.worker_id, range(8)))
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        work.await_end(worker)
    assert list(two.map(work.square, range(6))) == [n * n for n in range(6)]
    assert workers.isdisjoint(two.map(work.worker_id, range(8)))


def test_one_that_is_given_up_leaves_nothing_at_work(two: LocalEngine, tmp_path: Path) -> None:
    def tasks() -> Iterator[Path]:
        yield tmp_path
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(two.map(work.marking, tasks()))
    for mark in tmp_path.iterdir():
        work.await_end(int(mark.name))
    assert list(two.map(work.square, range(3))) == [0, 1, 4]


def test_an_interrupted_answer_is_not_taken_for_another() -> None:
    """Ctrl-C while a long answer is on its way, in a session that goes on."""

    def interrupt(*_: object) -> None:
        os.kill(worker, signal.SIGCONT)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with LocalEngine(1) as engine:
            results = engine.map(work.identity_or_size, [0, 20_000_000, 1])
            worker = next(results)
            assert isinstance(worker, int)
            # It is sending, and has filled the pipe before it stops: whoever receives waits.
            assert engine._workers[0].connection.poll(60)
            os.kill(worker, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                next(results)
            assert list(engine.map(work.square, range(3))) == [0, 1, 4]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_worker_begins_no_workers(two: LocalEngine) -> None:
    with pytest.raises(EngineError, match="a worker begins no workers of its own"):
        list(two.map(work.nested, [3]))


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from mmhealth.engines import LocalEngine\n"
        "with LocalEngine(1) as engine:\n"
        "    list(engine.map(abs, [1]))\n"
    )
    done = run_script(script)
    _, said = done.communicate()
    assert done.returncode
    assert said.splitlines()[-1].endswith(b'guards what it does with if __name__ == "__main__"')


def run_script(file: Path, *arguments: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


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
    process = run_script(file, marks)
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
        work.await_end(int(mark.name))
