"""Makes runs in parallel, one process each: what dies or is interrupted takes nothing with it.

Processes are forked from a server that has torch imported, and begin with its memory.
"""

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from mmhealth.reference.experiments.run import Job, execute

_PRELOAD = [execute.__module__, "torch._dynamo", "mmhealth.report", "mmhealth.runlog"]
"""What runs import, the optimizer among them, takes seconds."""
Done = Callable[[Job, bool], None]
"""Called with a job whose process has ended, and whether it left a result."""

_SECONDS_PER_STEP = {"1": 0.03, "2": 0.06, "3": 0.12, "4": 0.03, "5": 0.04, "orchestrator": 0.15}
"""Roughly, on one core: only the order of the runs depends on it."""


def make(jobs: Sequence[Job], *, processes: int, done: Done) -> None:
    """Make the runs in at most ``processes`` at a time, seed by seed, the longest first.

    So what an interruption leaves is all arms of some seeds, which can be compared.

    An exception, KeyboardInterrupt among them, ends the processes; finished results stay.
    """
    waiting = sorted(jobs, key=lambda job: (-job.seed, _cost(job)))
    running: dict[ForkServerProcess, Job] = {}
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with _one_thread_each():
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    job = waiting.pop()
                    process = context.Process(target=_child, args=(job,), daemon=True)
                    process.start()
                    running[process] = job
                wait([process.sentinel for process in running])
                for process in [one for one in running if one.exitcode is not None]:
                    done(running.pop(process), process.exitcode == 0)
        finally:
            for process in running:
                process.kill()
            for process in running:
                process.join()


def _child(job: Job) -> None:
    """A run in a process of its own; Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    execute(job)


def _cost(job: Job) -> tuple[float, str, int]:
    config = job.arm.config
    recorded = 1.5 if job.arm.audit or config.fixes.ess is not None else 1.0
    per_step = _SECONDS_PER_STEP.get(job.arm.figure, 0.1)
    return recorded * config.steps * per_step, job.arm.name, job.seed


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Numerical libraries of the processes to come run on one thread."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
