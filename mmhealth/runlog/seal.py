"""Seal the tails that dead writers left behind."""

import os
from collections.abc import Callable
from pathlib import Path

from mmhealth.runlog.layout import OpenTail, list_tails, list_unnamed
from mmhealth.runlog.lock import open_to_lock, try_lock
from mmhealth.runlog.segment import seal_tail


def seal_orphans(run_dir: Path, wanted: Callable[[OpenTail], bool] = lambda _: True) -> list[Path]:
    """Turn every wanted tail that no living process holds into a sealed segment.

    Returns the tails that were sealed. A tail that is being written is left alone: its writer holds
    a lock on it, which ends with the process, however it dies. Where the file system knows no locks
    nothing is sealed: nobody can tell the living from the dead. What a writer that died had not yet
    named, tails without rows and halves of segments, is removed.
    """
    remove_unfinished(run_dir)
    sealed = []
    for tail in list_tails(run_dir):
        if not wanted(tail):
            continue
        try:
            descriptor = open_to_lock(tail.path)
        except FileNotFoundError:
            continue
        try:
            if try_lock(descriptor):
                seal_tail(tail.path)
                sealed.append(tail.path)
        finally:
            os.close(descriptor)
    return sealed


def remove_unfinished(run_dir: Path) -> None:
    """Remove the files that dead processes had begun and not named."""
    for path in list_unnamed(run_dir):
        _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    """Remove an unnamed file; one that is empty may not have been locked yet and is left."""
    try:
        descriptor = open_to_lock(path)
    except FileNotFoundError:
        return
    try:
        if os.fstat(descriptor).st_size and try_lock(descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def is_being_written(tail: Path) -> bool:
    """Whether a living process holds the tail, or may do so as far as can be told just now."""
    try:
        descriptor = os.open(tail, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return try_lock(descriptor, shared=True) is not True
    finally:
        os.close(descriptor)
