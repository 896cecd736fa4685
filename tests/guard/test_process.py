"""Jobs stopped for real, down to the last of their processes."""

import sys
import threading
import time
from pathlib import Path

from mmhealth.guard.process import Job
from mmhealth.guard.proctable import Identity, identify, is_alive

WORKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
memory = bytearray(b"x") * (200 << 20)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""
"""It takes the system a moment to end it: there is much memory to give back."""

LAUNCHER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True)
time.sleep(60)
"""


def test_nothing_of_a_job_lives_when_its_stop_returns(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    job = Job([sys.executable, "-c", LAUNCHER, WORKER, str(pid)])
    seen: list[tuple[Identity | None, bool]] = []

    def stop() -> None:
        while not pid.exists():
            time.sleep(0.01)
        worker = identify(int(pid.read_text()))
        assert worker is not None
        assert job.stop(0.2)
        seen.append((worker, is_alive(worker)))

    thread = threading.Thread(target=stop)
    thread.start()
    job.wait()
    thread.join()
    [(worker, alive)] = seen
    assert not alive, worker
