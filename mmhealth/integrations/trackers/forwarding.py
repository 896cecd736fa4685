"""Sends a run's health metrics to trackers: once, or as long as the run grows."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmhealth.errors import MmhealthError, RunNotFoundError, TrackerError
from mmhealth.health import Policy
from mmhealth.integrations.trackers.ledger import Ledger, open_ledger
from mmhealth.integrations.trackers.steps import HealthStep, HealthSteps
from mmhealth.integrations.trackers.tracker import Target, Tracker, parse_target
from mmhealth.place import RunUrl
from mmhealth.runlog import Run

logger = logging.getLogger("mmhealth")

_CHUNK = 100
"""Steps between two entries in the ledger."""
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class Forwarded:
    """What one target was sent by this export."""

    target: str
    steps: int = 0
    in_doubt: int = 0
    """Steps, of those whose sending was cut off, that the tracker cannot tell whether it has; they
    are not sent again."""


def forward(
    run_dir: str | os.PathLike[str],
    to: Sequence[str],
    *,
    policy: Policy | None = None,
    follow: bool = False,
    poll: float = 1.0,
    stop: threading.Event | None = None,
) -> list[Forwarded]:
    """Send each step of a run to each target: once, in order, also after this was interrupted.

    Args:
        run_dir: the run, finished or growing.
        to: targets, as ``tensorboard=DIR``, ``wandb``, ``mlflow=URI``, ``trackio=PROJECT``.
        policy: what verdict and alerts rest on; the default policy where none is given.
        follow: go on until ``stop`` is set; the run may begin later. What fails after the first
            look is logged as a warning of the logger ``mmhealth`` and tried again, after longer
            and longer pauses.
        poll: seconds between two looks at the run.

    What is not known at a step is not sent. Raises TrackerTargetError for a target that is not
    known or not installed, TrackerError when it cannot be reached or another export sends to it,
    RunError as `open_run` does.
    """
    targets = [parse_target(text) for text in to]
    stop = stop or threading.Event()
    with ExitStack() as stack:
        while (steps := _open_steps(run_dir, policy, follow=follow)) is None:
            if stop.wait(poll):
                return [Forwarded(target.name) for target in targets]
        lanes = [stack.enter_context(_open_lane(steps.run, target)) for target in targets]
        _send(steps, lanes)
        pause = poll
        while follow and not stop.wait(pause):
            try:
                _send(steps, lanes)
                pause = poll
            except (MmhealthError, OSError) as error:
                logger.warning("mmhealth export, tried again later: %s", error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        if follow:
            _send(steps, lanes)
    return [lane.result for lane in lanes]


@contextmanager
def forwarding(
    run_dir: str | os.PathLike[str],
    to: Sequence[str],
    *,
    policy: Policy | None = None,
    poll: float = 1.0,
    patience: float = 60.0,
) -> Iterator[None]:
    """`forward` from a thread of the training process, until the block is left.

    The run has to exist: open the `Recorder` first. Raises TrackerTargetError and RunError at once;
    whatever goes wrong later is logged as a warning of the logger ``mmhealth``, and training goes
    on. At the end it waits up to ``patience`` seconds for what is still to be sent. To use none of
    the training's processor time run ``mmhealth export --follow`` beside it.
    """
    names = [parse_target(text).name for text in to]
    Run(Path(run_dir))
    stop = threading.Event()

    def work() -> None:
        try:
            forward(run_dir, to, policy=policy, follow=True, poll=poll, stop=stop)
        except Exception as error:  # noqa: BLE001 - no fault of a tracker may reach the training
            logger.warning("mmhealth sends no more to %s: %s", ", ".join(names), error)

    thread = threading.Thread(target=work, name="mmhealth-export", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(patience)
        if thread.is_alive():
            logger.warning("mmhealth export is still sending after %g s and is left", patience)


class _Lane:
    """The way of the steps to one target."""

    def __init__(self, target: Target, run: Run, ledger: Ledger) -> None:
        self.result = Forwarded(target.name)
        self._target = target
        self._run = run
        self._ledger = ledger
        self._tracker: Tracker | None = None
        self._waiting: list[HealthStep] = []

    def take(self, steps: Sequence[HealthStep]) -> None:
        """Put what was not sent before in line."""
        sent = self._ledger.sent
        self._waiting += [step for step in steps if sent is None or step.key > sent]

    def send(self) -> None:
        """Send what is in line; it stays there when it cannot be sent. Raises TrackerError."""
        if not self._waiting:
            return
        with self._target.without_secrets():
            self._deliver()

    def _deliver(self) -> None:
        tracker = self._tracker = self._tracker or self._open()
        while chunk := self._waiting[:_CHUNK]:
            self._ledger.begin(chunk[-1].key)
            try:
                for step in chunk:
                    tracker.send(step)
                tracker.flush()
            except TrackerError:
                self.close()
                raise
            self._ledger.done(chunk[-1].key)
            self.result.steps += len(chunk)
            del self._waiting[:_CHUNK]

    def close(self) -> None:
        """Close the tracker; it is opened again when there is something to send."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with self._target.without_secrets():
                tracker.close()

    def _open(self) -> Tracker:
        tracker = self._target.open(self._run)
        try:
            self._settle(tracker)
        except TrackerError:
            tracker.close()
            raise
        return tracker

    def _settle(self, tracker: Tracker) -> None:
        """Leave out what had arrived when the sending was cut off."""
        sending = self._ledger.sending
        if sending is None:
            return
        doubtful = [step for step in self._waiting if step.key <= sending]
        arrived = tracker.arrived(doubtful)
        if arrived is None:
            self.result.in_doubt += len(doubtful)
            arrived = [step.key for step in doubtful]
        self._waiting = [step for step in self._waiting if step.key not in arrived]
        if not any(step.key <= sending for step in self._waiting):
            self._ledger.done(sending)


def _open_steps(
    run_dir: str | os.PathLike[str], policy: Policy | None, *, follow: bool
) -> HealthSteps | None:
    """None where there is no run yet and it may begin later."""
    try:
        return HealthSteps(run_dir, policy)
    except RunNotFoundError:
        if not follow:
            raise
        return None


@contextmanager
def _open_lane(run: Run, target: Target) -> Iterator[_Lane]:
    if isinstance(run.path, RunUrl):
        raise TrackerError(f"{run.path}: what was sent is remembered in a run directory: give that")
    with open_ledger(run.path, run.id, target.name) as ledger:
        if ledger.sent is not None and target.gone:
            ledger.forget()
        lane = _Lane(target, run, ledger)
        try:
            yield lane
        finally:
            lane.close()


def _send(steps: HealthSteps, lanes: Sequence[_Lane]) -> None:
    """Look once, and send to all; raises the first error after the others had their turn."""
    found, errors = steps.read(), list[Exception]()
    for lane in lanes:
        lane.take(found)
    for lane in lanes:
        try:
            lane.send()
        except (TrackerError, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[0]
