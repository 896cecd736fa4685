"""The guard's state file, beside the run directory: who guards what, and whether it still lives."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from mmhealth.errors import GuardError
from mmhealth.guard.proctable import Identity, family, identify, is_alive
from mmhealth.runlog import recording_attempts
from mmhealth.runlog.lock import try_lock

Phase = Literal["starting", "running", "stopping", "stopped", "ended"]
"""``stopped``: by the guard; ``ended``: by itself, or never started."""
_UNDER_WAY = ("starting", "running", "stopping")


def beside(run_dir: Path, suffix: str) -> Path:
    """``RUN.guard`` and a suffix, next to the run directory and never in it."""
    run_dir = Path(os.path.abspath(run_dir))  # noqa: PTH100 - normalises "..", keeps links
    return run_dir.with_name(f"{run_dir.name}.guard{suffix}")


class GuardState:
    """What this guard has written down. Held under a lock that ends with the process."""

    def __init__(self, descriptor: int, content: dict[str, Any]) -> None:
        self._descriptor = descriptor
        self._content = content

    def write(self, phase: Phase, **more: Any) -> None:
        """Write down how it goes. On a full disk what stood there stays: the job matters more."""
        self._content |= {"phase": phase, "time": time.time(), **more}
        text = (json.dumps(self._content, indent=1) + "\n").encode()
        with suppress(OSError):
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))

    def running(self, job: Identity) -> None:
        """Write down which process the job is."""
        self.write("running", job=asdict(job))


@contextmanager
def claim(run_dir: Path) -> Iterator[GuardState]:
    """Be the one guard of a run directory until the block is left.

    Raises GuardError when somebody else is at work on it: another guard, the job of a guard that
    died, or a recorder. Raises OSError when the state file cannot be opened.
    """
    path = beside(run_dir, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        locked = try_lock(descriptor)
        earlier = _read(descriptor)
        if locked is False or (locked is None and _guard_lives(earlier)):
            who = (earlier.get("guard") or {}).get("pid", "?")
            raise GuardError(
                f"another guard (pid {who} on {earlier.get('host', '?')}) is at work on {run_dir}; "
                "a run has one guard"
            )
        _refuse_if_alive(run_dir, earlier)
        guard = identify(os.getpid()) or Identity(os.getpid(), "")
        state = GuardState(
            descriptor,
            {"version": 1, "host": socket.gethostname(), "guard": asdict(guard), "job": None},
        )
        state.write("starting")
        yield state
    finally:
        os.close(descriptor)


def _refuse_if_alive(run_dir: Path, earlier: dict[str, Any]) -> None:
    """Raise GuardError where an earlier guard's job, or any recorder of the run, still lives."""
    job = _identity(earlier, "job") if earlier.get("phase") in _UNDER_WAY else None
    if job is not None and (is_alive(job) or _is_left(job)):
        died = (earlier.get("guard") or {}).get("pid", "?")
        raise GuardError(
            f"an earlier guard (pid {died}) died, and its job (pid {job.pid}) still runs on "
            f"{run_dir}, with nobody to stop it. Wait for it, or end it with "
            f"`kill -TERM -- -{job.pid}`; `mmhealth watch` shows how it goes"
        )
    if attempts := recording_attempts(run_dir):
        raise GuardError(
            f"{run_dir} is being recorded (attempt {attempts[-1]}) by a process that no guard "
            "started or that outlived its job: end it first, or choose another --run-dir"
        )


def _is_left(job: Identity) -> bool:
    """Whether the job's first process is gone and others of its group live.

    Known only where start times name the boot of the machine that they count from.
    """
    here = identify(os.getpid())
    boot, slash, _ = job.start.partition("/")
    if here is None or not slash or here.start.partition("/")[0] != boot:
        return False
    return identify(job.pid) is None and bool(family(job.pid))


def _guard_lives(state: dict[str, Any]) -> bool:
    """Whether the guard that wrote the file lives: for file systems that know no locks."""
    guard = _identity(state, "guard") if state.get("phase") in _UNDER_WAY else None
    return guard is not None and is_alive(guard)


def _identity(state: dict[str, Any], who: str) -> Identity | None:
    """The process that a state file names; its start time tells it from all on other machines."""
    named = state.get(who)
    if not isinstance(named, dict) or not isinstance(named.get("pid"), int):
        return None
    return Identity(named["pid"], str(named.get("start", "")))


def _read(descriptor: int) -> dict[str, Any]:
    """What an earlier guard left; empty where there is nothing that can be understood."""
    try:
        content = json.loads(os.pread(descriptor, 1 << 20, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
