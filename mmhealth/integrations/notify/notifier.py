"""Delivers messages in the background; whoever sends never waits and never sees an error."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from mmhealth.health import Alert
from mmhealth.health.alerts import SEVERITIES, AlertState
from mmhealth.integrations.notify.backoff import Backoff
from mmhealth.integrations.notify.http import UndeliveredError
from mmhealth.integrations.notify.message import Message, alert_message, sample_message
from mmhealth.integrations.notify.targets import Target

logger = logging.getLogger("mmhealth")

_TEST_S = 30.0


@dataclass(slots=True)
class Counts:
    """What became of the messages to one target."""

    target: str
    """Its name, and what it is; without secrets, as all of this."""
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    """Never tried, because too many were waiting."""
    last_error: str = ""

    def describe(self) -> str:
        """In one sentence."""
        lost = self.failed + self.dropped
        if not lost:
            return f"{self.target}: {self.delivered} delivered"
        why = f": {self.last_error}" if self.last_error else ""
        return f"{self.target}: {lost} of {lost + self.delivered} not delivered{why}"


class Notifier:
    """Tells targets of alerts, each once per change of its state.

    ``Monitor(run, policy, on_alert=notifier.send)`` connects it. Each target has a thread and a
    queue of its own, so that one that is down keeps none of the others waiting. Network errors and
    answers 429 and 5xx are tried again (``Retry-After`` is honoured) until the target's
    ``give_up_after``; what is lost is counted, and the first loss of a target is logged as a
    warning of the logger ``mmhealth``.

    Args:
        targets: where to; see `load_targets`.
        run: what messages call the run.
        queue_size: messages that may wait for one target; further ones are dropped and counted.
        backoff: pauses between attempts.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        run: str = "",
        queue_size: int = 1000,
        backoff: Backoff | None = None,
    ) -> None:
        self.run = run
        self._lanes = [_Lane(target, queue_size, backoff or Backoff()) for target in targets]
        self._told: dict[tuple[str, tuple[str, int, int]], AlertState] = {}
        self._lock = threading.Lock()

    def send(self, alert: Alert, run_id: str = "") -> None:
        """Tell of an alert, unless the last that was told of it is the same state.

        ``run_id`` tells apart runs that have one notifier, as where one replaces another.
        """
        key = (run_id, alert.key)
        with self._lock:
            if self._told.get(key) == alert.state:
                return
            self._told[key] = alert.state
        message = alert_message(alert, self.run)
        for lane in self._lanes:
            least = lane.target.options.severity
            if SEVERITIES.index(alert.severity) >= SEVERITIES.index(least):
                lane.put(message)

    def send_message(self, message: Message) -> None:
        """Tell all targets something else."""
        for lane in self._lanes:
            lane.put(message)

    def counts(self) -> list[Counts]:
        """What became of the messages so far, target by target."""
        return [lane.count() for lane in self._lanes]

    def close(self, timeout: float = 30.0) -> None:
        """Wait up to ``timeout`` seconds for what is waiting; the rest counts as failed."""
        deadline = time.monotonic() + timeout
        for lane in self._lanes:
            lane.close()
        for lane in self._lanes:
            lane.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def send_test(targets: Sequence[Target]) -> list[Counts]:
    """Send a test message to each target, and say what became of it within half a minute."""
    notifier = Notifier(targets)
    notifier.send_message(sample_message())
    notifier.close(_TEST_S)
    return notifier.counts()


class _Lane:
    """The messages to one target, delivered in order by a thread."""

    def __init__(self, target: Target, size: int, backoff: Backoff) -> None:
        self.target = target
        self._size = size
        self._backoff = backoff
        self._waiting: deque[Message] = deque()
        self._under_way = 0
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = threading.Event()
        shown = f"{target.options.name} ({target.options.redact(target.describe())})"
        self._counts = Counts(shown)
        self._thread = threading.Thread(target=self._work, name="mmhealth-notify", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        with self._changed:
            if self._closed or len(self._waiting) >= self._size:
                self._counts.dropped += 1
                return
            self._waiting.append(message)
            self._changed.notify()

    def count(self) -> Counts:
        with self._changed:
            return replace(self._counts)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            with self._changed:
                self._abandoned.set()
                lost = len(self._waiting) + self._under_way
                self._waiting.clear()
            if lost:
                self._lose("still not delivered at the end", lost)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                message = self._waiting.popleft()
                self._under_way = 1
            why = self._deliver(message)
            with self._changed:
                self._under_way = 0
                if self._abandoned.is_set():
                    return
                if why is None:
                    self._counts.delivered += 1
                else:
                    self._lose(why)

    def _deliver(self, message: Message) -> str | None:
        """Why the message was not delivered; None when it was."""
        deadline = time.monotonic() + self.target.options.give_up_after
        for pause in self._backoff.pauses():
            try:
                self.target.deliver(message)
            except UndeliveredError as error:
                wait = max(pause, error.retry_after)
                if not error.transient:
                    return str(error)
                if time.monotonic() + wait > deadline:
                    return f"{error}; given up after {self.target.options.give_up_after:g} s"
                if self._abandoned.wait(wait):
                    return str(error)
            except Exception as error:  # noqa: BLE001 - no fault of a target may end the thread
                return f"{type(error).__name__}: {error} (please report this)"
            else:
                return None
        raise AssertionError("pauses have no end")

    def _lose(self, why: str, number: int = 1) -> None:
        why = self.target.options.redact(why)
        with self._changed:
            first = not self._counts.failed
            self._counts.failed += number
            self._counts.last_error = why
        if first:
            logger.warning(
                "mmhealth could not deliver a message to %s: %s. (Further losses are counted, not "
                "repeated; `mmhealth notify test` shows whether it is reached.)",
                self._counts.target,
                why,
            )
