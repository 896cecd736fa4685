"""Who may replace sealed segments: many that merge neighbours, or one that removes rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmhealth.runlog.lock import try_lock, unlock

LOCK_FILE = ".rewriting.lock"


@contextmanager
def rewriting(run_dir: Path, *, alone: bool) -> Iterator[bool | None]:
    """Hold a run's lock while segments are replaced; it ends with the process.

    Compaction shares it, for each writer's segments are merged by one process; whoever removes rows
    is ``alone``: a merger that had read them before would bring them back, or lose others. Gives
    False where somebody else is at work, None where the file system knows no locks. Raises OSError.
    """
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    held = None
    try:
        held = try_lock(descriptor, shared=not alone)
        yield held
    finally:
        if held:
            unlock(descriptor)
        os.close(descriptor)
