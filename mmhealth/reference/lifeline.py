"""Ends a child process with the parent that holds its standard input."""

import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """From now on, end this process by SIGTERM as soon as its standard input is closed.

    The parent gives it a pipe and writes nothing: the system closes it however the parent ends, by
    SIGKILL too.
    """
    threading.Thread(target=_wait, name="mmhealth-lifeline", daemon=True).start()


def _wait() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
