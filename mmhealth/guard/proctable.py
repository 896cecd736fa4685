"""The table of processes: who is whose child, and who is still the one that was meant.

A process id alone names nobody: the system gives it out again. A process is named by its id and the
time at which it started.
"""

import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Identity:
    """Names one process, for as long as the machine is up and after."""

    pid: int
    start: str
    """When it started: opaque, never the same for two processes with one id."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has not ended."""

    identity: Identity
    parent: int
    group: int


def processes() -> dict[int, Process]:
    """All processes that this one can see and that have not ended, by id; none where none can."""
    found = _from_proc() if (_PROC / "self" / "stat").exists() else _from_ps()
    return {process.identity.pid: process for process in found}


def identify(pid: int) -> Identity | None:
    """Name a process; None when there is none with this id."""
    process = processes().get(pid)
    return None if process is None else process.identity


def is_alive(identity: Identity) -> bool:
    """Whether this very process, not another one with its id, has not ended."""
    return identify(identity.pid) == identity


def family(group: int | None, known: Collection[Identity] = ()) -> set[Identity]:
    """Processes of a group, those ``known`` that still live, and all that descend from them.

    None for a group whose leader has been waited for: once the group is empty, too, its id may be
    given to others.
    """
    table = processes()
    found = {
        pid for pid, process in table.items() if process.group == group or process.identity in known
    }
    size = -1
    while len(found) != size:
        size = len(found)
        found |= {pid for pid, process in table.items() if process.parent in found}
    return {table[pid].identity for pid in found - {os.getpid()}}


def _from_proc() -> list[Process]:
    found = []
    for entry in os.scandir(_PROC):
        if not entry.name.isdecimal():
            continue
        try:
            text = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        state, parent, group, *rest = text.rpartition(")")[2].split()
        if state != _ZOMBIE:
            identity = Identity(int(entry.name), f"{_boot()}/{rest[16]}")
            found.append(Process(identity, int(parent), int(group)))
    return found


@cache
def _boot() -> str:
    """Names this start of the machine: start times in /proc count from it."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _from_ps() -> list[Process]:
    """The same from ``ps``, on systems without /proc."""
    command = ["ps", "-A", "-o", "pid=,ppid=,pgid=,state=,lstart="]
    try:
        table = subprocess.check_output(command, text=True, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in table.splitlines():
        pid, parent, group, state, *start = line.split()
        if not state.startswith(_ZOMBIE):
            identity = Identity(int(pid), " ".join(start))
            found.append(Process(identity, int(parent), int(group)))
    return found
