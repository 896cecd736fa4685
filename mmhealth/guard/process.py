"""The job: a child process in a session of its own, to which signals are passed on."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from mmhealth.guard.proctable import Identity, family, identify

_TO_THE_GROUP = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
)
"""What a terminal sends to all processes of a job."""
_TO_THE_LEADER = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What supervisors send to one process; to the others SIGUSR1 and 2 would mean death."""
_TO_END = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
"""What asks a process to end."""
_LOOK_EVERY_S = 0.1
_KILL_EVERY_S = 0.02
_DEATH_S = 10.0
"""How long processes that were killed are waited for: those that hang in the kernel stay."""


class Job:
    """A command that runs as a child process, from its start to its end.

    It leads a session of its own, so that nothing that ends this process ends it too, and has the
    standard streams of this process. Raises OSError when the command cannot be run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._child = subprocess.Popen(list(command), start_new_session=True)
        self.identity = identify(self._child.pid) or Identity(self._child.pid, "")
        self._over = False
        self._members: set[Identity] = set()
        """What a stop is to end; empty where none was asked for."""
        self._leader_ended = threading.Event()
        self._signalling = threading.Lock()

    @property
    def pid(self) -> int:
        """Id of the process, of its group and of its session."""
        return self._child.pid

    def wait(self) -> int:
        """Until the process has ended; its exit code, 128 + n for signal n, as shells say it.

        For the main thread. Until this returns the process id is not given to anybody else.
        """
        ended = threading.Event()
        threading.Thread(
            target=self._await_end, args=(ended,), name="mmhealth-guard-wait", daemon=True
        ).start()
        while not ended.wait(_LOOK_EVERY_S):
            pass  # a signal that comes just before a wait does not end it
        with self._signalling:
            if self._members:
                self._look()
            self._over = True
            code = self._child.wait()
        self._leader_ended.set()
        return code if code >= 0 else 128 - code

    def _await_end(self, ended: threading.Event) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._child.wait()
        ended.set()

    def pass_on(self, number: int) -> bool:
        """Pass a signal on, as if the job had got it in this process's place. A signal handler.

        False when the job is over.
        """
        if self._over:
            return False
        if number == signal.SIGTSTP:
            # A group whose parent is in another session does not stop by SIGTSTP.
            _send_to_group(self.pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif number in _TO_THE_GROUP:
            _send_to_group(self.pid, number)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)
        return True

    def stop(self, grace: float) -> bool:
        """End the job: SIGTERM to its group, and SIGKILL to what is left after ``grace`` seconds.

        What is left are processes of the group and all that descended from the job when it was
        asked: launchers give their workers sessions of their own. False when the job had ended by
        itself. Returns when nothing is left, or `_DEATH_S` after the first SIGKILL; not for the
        main thread, which must `wait`.
        """
        deadline = time.monotonic() + grace
        with self._signalling:
            if self._over:
                return False
            self._look()
            _send_to_group(self.pid, signal.SIGTERM)
            _send_to_group(self.pid, signal.SIGCONT)
        self._leader_ended.wait(grace)
        while self._left() and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        deadline = time.monotonic() + _DEATH_S
        while (left := self._left()) and time.monotonic() < deadline:
            with self._signalling:
                if not self._over:
                    _send_to_group(self.pid, signal.SIGKILL)
            for identity in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(identity.pid, signal.SIGKILL)
            time.sleep(_KILL_EVERY_S)
        self._leader_ended.wait()
        return True

    def _left(self) -> set[Identity]:
        """What is to end and still lives."""
        with self._signalling:
            return self._look()

    def _look(self) -> set[Identity]:
        """The same, where signalling is held; the group counts until its leader is waited for."""
        left = family(None if self._over else self.pid, self._members)
        self._members |= left
        return left


class SignalPost:
    """Takes the signals of this process while a job is started and runs, and passes them on.

    Signals that were ignored before, as by ``nohup``, stay so, here and in the job; but for
    SIGCHLD, without which nobody learns how the job ended. Those that come before there is a job
    are passed on when there is; those that come when it has ended only cut short what is left.
    """

    def __init__(self) -> None:
        self._job: Job | None = None
        self._waiting: list[int] = []
        self._enough: SimpleQueue[bool] = SimpleQueue()
        """True when the work after the job is done, False for a signal; `put` is re-entrant."""

    def deliver_to(self, job: Job) -> None:
        """From now on pass signals on to this job."""
        self._job = job
        while self._waiting:
            job.pass_on(self._waiting.pop(0))

    def do_unless_signalled(self, work: Callable[[], None]) -> bool:
        """Do what is left when the job has ended; False where a signal asks to end before.

        The work, in a thread, is then abandoned. For the main thread.
        """

        def do() -> None:
            try:
                work()
            finally:
                self._enough.put(True)

        threading.Thread(target=do, name="mmhealth-guard-end", daemon=True).start()
        while True:  # a signal that comes just before a wait does not end it
            with suppress(Empty):
                return self._enough.get(timeout=_LOOK_EVERY_S)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take signals until the block is left. For the main thread."""
        numbers = (*_TO_THE_GROUP, *_TO_THE_LEADER)
        before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
        taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
        for number in taken:
            signal.signal(number, self._take)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            yield
        finally:
            for number in (*taken, signal.SIGCHLD):
                signal.signal(number, before[number])

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._job is None:
            self._waiting.append(number)
        elif not self._job.pass_on(number) and number in _TO_END:
            self._enough.put(False)


def _send_to_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
