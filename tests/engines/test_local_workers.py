"""Workers of a LocalEngine that die, and that are left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

from mmhealth.engines import LocalEngine

KILLED = """
import os, signal
from mmhealth.engines import LocalEngine
if __name__ == "__main__":
    with LocalEngine(1) as engine:
        for pid in engine.map(eval, ["__import__('os').getpid()"]):
            print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(KILLED, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, timeout=60
    )
    worker = Path("/proc") / found.stdout.strip()
    deadline = time.monotonic() + 30
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found.stdout.strip()
    assert not worker.exists()


def _die_once(marker: Path) -> int:
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return os.getpid()


def test_a_worker_that_dies_over_the_first_of_many_tasks_is_replaced(tmp_path: Path) -> None:
    with LocalEngine(1) as engine:
        workers = list(engine.map(_die_once, [tmp_path / "died"] * 9))
    assert len(workers) == 9
    assert len(set(workers)) == 1
