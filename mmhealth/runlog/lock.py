"""Locks on tails: a writer holds one as long as it lives, so that nobody seals what still grows."""

import errno
import fcntl

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK}


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file for as long as it stays open.

    False when somebody else holds the lock; None where the file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True
