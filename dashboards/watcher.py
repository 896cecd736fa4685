"""Follows one run: a thread that owns its monitor, and what it last saw."""

import contextlib
import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import polars as pl

from mmhealth.errors import MmhealthError, RunNotFoundError
from mmhealth.estimators import HorizonMatrix
from mmhealth.figures import RunView
from mmhealth.health import Monitor, Policy, Verdict, judge_run
from mmhealth.health.contribution import StepContribution, step_contribution
from mmhealth.health.heldout import SampledHorizons, final_horizons, held_out_course
from mmhealth.health.timeline import SCHEMA
from mmhealth.place import RunPlace, RunUrl, name_of
from mmhealth.runlog import Run, RunStatus

_LONGEST_PAUSE_S = 1.2
_REMOTE_INTERVAL_S = 5.0
"""Each look at an object store is a request that somebody pays for."""
"""A long run takes long to look at: the watcher leaves the processor to the training meanwhile."""

WatchState = Literal["waiting", "reading", "watching", "unreadable", "stopped"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a watcher last saw; never changed, only replaced."""

    view: RunView
    state: WatchState
    message: str
    """What the state means, in words; empty while all is well."""
    revision: int = 0
    """Changes with everything but the clock."""
    verdict: Verdict | None = None
    status: RunStatus | None = None
    horizon: HorizonMatrix = field(default_factory=lambda: HorizonMatrix(()))


class _CountingRun(Run):
    """A run that counts how often there was something new."""

    revision = 0

    def refresh(self) -> bool:
        new = super().refresh()
        self.revision += new
        return new


class RunWatcher:
    """Polls one run directory, which need not exist yet.

    Only its own thread judges the run, so that alerts are the same for any number of browsers.
    `snapshot` never waits; `step` waits briefly for the thread.
    """

    def __init__(
        self, path: RunPlace, name: str, number: int, policy: Policy, interval: float
    ) -> None:
        self.path = path
        self.name = name
        self.number = number
        self.policy = policy
        self.interval = max(interval, _REMOTE_INTERVAL_S) if isinstance(path, RunUrl) else interval
        view = RunView(name, pl.DataFrame(schema=SCHEMA), number=number)
        self.snapshot = Snapshot(view, "waiting", f"waiting for the run: {path} is not there yet")
        self._lock = threading.Lock()
        self._run: _CountingRun | None = None
        self._monitor: Monitor | None = None
        self._sampled: SampledHorizons | None = None
        self._identity: tuple[int, int] | None = None
        self._seen = 0
        self._stop = threading.Event()
        self._steps: dict[tuple[int, int], StepContribution | None] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Poll from a thread, until `stop`."""
        _import_pandas()
        self._thread = threading.Thread(
            target=self._follow, name=f"mmhealth-watch-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def poll(self) -> None:
        """Read and judge what is new."""
        with self._lock:
            try:
                self._open()
                assert self._monitor is not None
                assert self._run is not None
                assert self._sampled is not None
                if self.snapshot.state in ("waiting", "unreadable"):
                    self._say("reading", "reading the run")
                self._monitor.poll()
            except RunNotFoundError:
                if self._monitor is None:
                    self._say("waiting", f"waiting for the run: {self.path} is not there yet")
                return
            except (OSError, MmhealthError) as error:
                self._say("unreadable", f"cannot be read: {error}")
                return
            if self._run.revision != self._seen or self.snapshot.state != "watching":
                self._seen = self._run.revision
                self._publish(self._monitor, self._run, self._sampled)

    def step(self, step: int) -> StepContribution | None:
        """The trajectories of a step; None where there is none, or while the run is being read."""
        key = (self.snapshot.revision, step)
        if key in self._steps:
            return self._steps[key]
        if not self._lock.acquire(timeout=0.5):
            return None
        try:
            if self._run is None:
                return None
            data = self._run.step_data(step)
            found = None if data is None else step_contribution(data, self._run.loss_ratio)
            self._steps = dict(list(self._steps.items())[-7:]) | {key: found}
            return found
        finally:
            self._lock.release()

    def _follow(self) -> None:
        try:
            pause = 0.0
            while not self._stop.wait(pause):
                began = time.monotonic()
                self.poll()
                pause = max(self.interval, min(2 * (time.monotonic() - began), _LONGEST_PAUSE_S))
        finally:
            if not self._stop.is_set():
                self._say("stopped", "the reader of this run failed: restart `mmhealth watch`")

    def _open(self) -> None:
        """Open the run; again when another was recorded in its place."""
        if isinstance(self.path, RunUrl):
            identity = (0, 0)
        else:
            try:
                about = (self.path / "run.json").stat()
            except OSError as error:
                raise RunNotFoundError(str(error)) from error
            identity = (about.st_ino, about.st_mtime_ns)
        if self._monitor is None or identity != self._identity:
            self._run = _CountingRun(self.path)
            self._monitor = Monitor(self._run, self.policy)
            self._sampled = SampledHorizons(self._run)
            self._identity = identity
            self._seen = -1

    def _publish(self, monitor: Monitor, run: Run, sampled: SampledHorizons) -> None:
        old = self.snapshot
        verdict = judge_run(monitor)
        view = RunView(
            self.name,
            monitor.timeline.frame,
            tuple(replace(alert) for alert in monitor.alerts),
            monitor.timeline.reasons(),
            old.view.number,
            held_out_course(run.evaluations),
            monitor.timeline.sources,
        )
        horizons = final_horizons(run.evaluations, lambda: sampled.up_to(view.timeline))
        self.snapshot = Snapshot(
            view,
            "watching",
            "",
            old.revision + 1,
            verdict,
            run.status(),
            horizons.matrix,
        )

    def _say(self, state: WatchState, message: str) -> None:
        old = self.snapshot
        if (old.state, old.message) != (state, message):
            self.snapshot = replace(old, state=state, message=message, revision=old.revision + 1)


def _import_pandas() -> None:
    """Import pandas, where it is installed, before there are threads.

    pyarrow imports it at first use, and plotly in another thread would take it half imported.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("pandas")


def watch_runs(
    paths: Sequence[RunPlace], policy: Policy, *, interval: float = 0.4, autostart: bool = True
) -> list[RunWatcher]:
    """A watcher for each path, named by its directory, that polls every ``interval`` seconds."""
    names = [name_of(path) or str(path) for path in paths]
    watchers = [
        RunWatcher(path, name if names.count(name) == 1 else str(path), number, policy, interval)
        for number, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    for watcher in watchers if autostart else ():
        watcher.start()
    return watchers
