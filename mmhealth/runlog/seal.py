"""Seal the tails that dead writers left behind."""

import fcntl
from collections.abc import Callable
from pathlib import Path

from mmhealth.runlog.layout import OpenTail, list_tails
from mmhealth.runlog.segment import seal_tail


def seal_orphans(run_dir: Path, wanted: Callable[[OpenTail], bool] = lambda _: True) -> list[Path]:
    """Turn every wanted tail that no living process holds into a sealed segment.

    Returns the tails that were sealed. A tail that is being written is left alone: its writer holds
    a lock on it, which ends with the process, however it dies.
    """
    sealed = []
    for tail in list_tails(run_dir):
        if wanted(tail) and _is_orphan(tail.path):
            seal_tail(tail.path)
            sealed.append(tail.path)
    return sealed


def _is_orphan(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False
    return True
