"""Tells whether somebody records a run right now."""

import os
from pathlib import Path

from mmhealth.runlog.layout import list_tails
from mmhealth.runlog.lock import try_lock


def recording_attempts(run_dir: Path) -> list[int]:
    """Attempts of which a living recorder holds a tail, as its locks prove; in order.

    A recorder holds a tail from its first batch on. Where the file system knows no locks nothing is
    proven and the list is empty.
    """
    held = set()
    for tail in list_tails(run_dir):
        try:
            descriptor = os.open(tail.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if try_lock(descriptor, shared=True) is False:
                held.add(tail.writer.attempt)
        finally:
            os.close(descriptor)
    return sorted(held)
