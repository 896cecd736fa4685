"""Tells whether somebody records a run right now, and whether it is over."""

import json
import os
from pathlib import Path

from mmhealth.runlog.layout import list_tails, list_writers, writer_path
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


def is_closed(run_dir: Path) -> bool:
    """Whether every recorder of the latest attempt has been closed: nothing more will come."""
    writers = list_writers(run_dir)
    last = max((writer.attempt for writer in writers), default=None)
    return last is not None and all(
        _has_closed(writer_path(run_dir, writer)) for writer in writers if writer.attempt == last
    )


def _has_closed(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("closed"))
    except (OSError, ValueError, AttributeError):
        return False
