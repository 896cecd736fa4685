"""The thread that watches while the job runs, and has it stopped when the policy says so."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from polars.exceptions import PanicException

from mmhealth.errors import MmhealthError
from mmhealth.guard.process import Job
from mmhealth.guard.state import GuardState
from mmhealth.guard.watch import Watch
from mmhealth.health import Alert

T = TypeVar("T")
Say = Callable[[str], None]

_PATIENCE_S = 30.0
"""How long the end of a job waits for a look that is under way."""
_LONGEST_PAUSE_S = 60.0


class Careful:
    """Does what may fail without harm to the job.

    Each kind of failure of one thing is said once, and again when that thing has gone well since.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: dict[str, set[str]] = {}

    def attempt(self, work: Callable[[], T], failed: str) -> T | None:
        """What ``work`` returns; None where it fails. Nothing is raised."""
        try:
            result = work()
        except (MmhealthError, OSError) as error:
            kind, why = type(error).__name__, str(error)
        # No fault of the guard may reach the job; PanicException, of polars, is no Exception.
        except (Exception, PanicException) as error:  # noqa: BLE001
            kind = type(error).__name__
            why = f"{kind}: {error} (please report this)"
        else:
            self._said.pop(failed, None)
            return result
        said = self._said.setdefault(failed, set())
        if kind not in said:
            said.add(kind)
            self._say(f"{failed}: {why}")
        return None


class Watchman:
    """Looks at the run every ``poll`` seconds until the job has ended or is to be stopped."""

    def __init__(
        self,
        watch: Watch,
        job: Job,
        state: GuardState | None,
        careful: Careful,
        say: Say,
        *,
        poll: float,
        grace: float,
    ) -> None:
        self.stopped_for: Sequence[Alert] = ()
        """The alerts for which the job was stopped; none where it was not."""
        self.watch = watch
        self._job = job
        self._state = state
        self.careful = careful
        self._say = say
        self._poll = poll
        self._grace = grace
        self._ended = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name="mmhealth-guard", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """The job has ended: wait for what is under way; False when a look takes too long."""
        self._ended.set()
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive() and not self._stopping:
            self._say("the run cannot be read in time; what it says of the last steps is not known")
            return False
        self._thread.join()
        return True

    def look(self) -> list[Alert] | None:
        """The alerts for which the job is to be stopped; None where the run cannot be judged."""
        breaching = self.careful.attempt(
            self.watch.look, "the run cannot be judged, the job goes on"
        )
        if breaching is None:
            self.watch.forget()
        return breaching

    def _follow(self) -> None:
        pause = self._poll
        while not self._ended.wait(pause):
            breaching = self.look()
            pause = min(2 * pause, _LONGEST_PAUSE_S) if breaching is None else self._poll
            if breaching and not self._ended.is_set():
                self._stop(breaching)
                return

    def _stop(self, alerts: Sequence[Alert]) -> None:
        self._stopping = True
        self._say(
            f"stopping the job (pid {self._job.pid}): {alerts[0].severity}: {alerts[0].message}"
        )
        if self._state is not None:
            self._state.write("stopping", alert=alerts[0].message)
        if self.careful.attempt(lambda: self._job.stop(self._grace), "the job cannot be stopped"):
            self.stopped_for = alerts
