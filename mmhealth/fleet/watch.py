"""Follows a fleet: looks which runs have changed, and judges those again in the background."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmhealth.engines import Engine
from mmhealth.errors import EngineError, MmhealthError, RunNotFoundError
from mmhealth.fleet.find import find_runs
from mmhealth.fleet.judge import each_judged, judge_one
from mmhealth.fleet.summary import SILENT_S, RunSummary
from mmhealth.health import Policy
from mmhealth.place import RunPlace, run_place
from mmhealth.runlog.fingerprint import Fingerprint, fingerprint

LEAST_PAUSE_S = 2.0
"""Between two looks; after long work the watcher rests twice as long as that took."""
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """What was last said of a run."""

    number: int
    """Stays the run's own while the fleet is watched."""
    summary: RunSummary
    revision: int
    """Of the fleet, when it was said."""


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """What a watcher last saw; never changed, only replaced."""

    rows: tuple[Row, ...] = ()
    revision: int = 0
    """Rises with everything new."""
    due: int = 0
    """Runs that have changed and wait to be judged."""
    message: str = ""
    """What is wrong, in words; empty while all is well."""


class FleetWatcher:
    """Keeps the summaries of all runs that are meant, as a thread of its own looks at their files.

    Patterns are expanded anew at each look, so new runs appear; one that is gone goes. `snapshot`
    never waits.

    Args:
        given: run directories, folders and patterns, as `find_runs` takes them.
        policy: rules to judge by.
        engine: where runs are judged; ended by whoever began it.
        pause: least seconds between two looks.
        cache: folder of steps that were measured before; see `mmhealth.health.Monitor`.
    """

    def __init__(
        self,
        given: Iterable[str],
        policy: Policy,
        engine: Engine,
        *,
        pause: float = LEAST_PAUSE_S,
        cache: Path | None = None,
    ) -> None:
        self.given = list(given)
        self.policy = policy
        self.snapshot = FleetSnapshot()
        self._engine = engine
        self._pause = pause
        self._cache = cache
        self._rows: dict[RunPlace, Row] = {}
        self._seen: dict[RunPlace, Fingerprint] = {}
        self._numbers = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from a thread, until `stop`."""
        self._thread = threading.Thread(target=self._follow, name="mmhealth-fleet", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the run that is being judged."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def path(self, number: int) -> RunPlace | None:
        """The run with this number; None where there is none."""
        found = (row.summary.path for row in self.snapshot.rows if row.number == number)
        path = next(found, None)
        return None if path is None else run_place(path)

    def look(self) -> None:
        """Judge what is new; publish each run as soon as it is judged."""
        try:
            paths = find_runs(self.given)
            message = ""
        except RunNotFoundError as error:
            paths, message = [], f"waiting: {error}"
        for gone in self._rows.keys() - set(paths):
            del self._rows[gone]
            self._seen.pop(gone, None)
        now = time.time()
        reference = self.policy.reference
        beside = () if reference is None else _seen_of(run_place(reference))
        prints = {path: _seen_of(path) + beside for path in paths}
        due = [path for path in paths if self._is_due(path, prints[path], now)]
        self._publish(len(due), message)
        judge = partial(judge_one, policy=self.policy, cache=self._cache)
        judged = each_judged(judge, due, self._engine)
        for count, (path, summary) in enumerate(zip(due, judged, strict=True), 1):
            self._seen[path] = prints[path]
            self._put(path, summary)
            self._publish(len(due) - count, message)
            if self._stop.is_set():
                return

    def _is_due(self, path: RunPlace, found: Fingerprint, now: float) -> bool:
        row = self._rows.get(path)
        if row is None or self._seen.get(path) != found:
            return True
        last, state = row.summary.last_commit, row.summary.state
        return state == "recording" and last is not None and now - last > SILENT_S

    def _put(self, path: RunPlace, summary: RunSummary) -> None:
        old = self._rows.get(path)
        if old is not None and old.summary == summary:
            return
        if old is None:
            self._numbers += 1
        number = self._numbers if old is None else old.number
        self._rows[path] = Row(number, summary, self.snapshot.revision + 1)

    def _publish(self, due: int, message: str) -> None:
        rows = tuple(self._rows.values())
        old = self.snapshot
        if (rows, due, message) != (old.rows, old.due, old.message):
            self.snapshot = FleetSnapshot(rows, old.revision + 1, due, message)

    def _follow(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.look()
            except EngineError as error:
                self._publish(0, f"{error}; restart to go on")
                return
            except (MmhealthError, OSError) as error:
                self._publish(0, str(error))
            pause = max(self._pause, min(2 * (time.monotonic() - began), _LONGEST_PAUSE_S))


def _seen_of(path: RunPlace) -> Fingerprint:
    """What a run looks like from outside; nothing where nothing can be seen: whoever judges it says
    why."""
    try:
        return fingerprint(path)
    except (MmhealthError, OSError, UnicodeError):
        return ()
