"""Locks on tails: a writer holds one as long as it lives, so that nobody seals what still grows."""

import errno
import fcntl
import os
from pathlib import Path

_UNSUPPORTED = {
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.ENOLCK,
    errno.EBADF,
}
"""EBADF: NFS, which locks ranges of bytes in place of files, locks only what the mode of opening
allows (flock(2)): an exclusive lock needs one for writing, a shared one a mode for reading."""


def open_to_lock(path: Path) -> int:
    """Open a file so that it can be locked exclusively; for reading only where that is forbidden.

    Raises OSError as `os.open` does.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def unlock(descriptor: int) -> None:
    """Let go of a lock, also where a forked process holds the file open, too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file for as long as it stays open; ``shared`` is enough to ask who holds it.

    False when somebody else holds the lock; None where the file system knows no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True
