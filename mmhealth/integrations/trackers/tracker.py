"""What a tracker has to be able to do, and how one is named."""

import importlib
import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mmhealth.errors import TrackerError, TrackerTargetError
from mmhealth.health.timeline import LivedStep
from mmhealth.integrations.trackers.steps import HealthStep
from mmhealth.runlog import Run


class Tracker(Protocol):
    """An open tracker. Each method may raise TrackerError; what was being sent is then in doubt."""

    def arrived(self, doubtful: Sequence[HealthStep], /) -> Collection[LivedStep] | None:
        """Those of the steps, whose sending was cut off, that are not to be sent again.

        None where the tracker cannot tell; then none is: a step may be missing, not doubled.
        """

    def send(self, step: HealthStep) -> None:
        """Hand over one step, later than all before."""

    def flush(self) -> None:
        """Return when what was handed over is out of this process's hands."""

    def close(self) -> None:
        """Flush, and let go."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tracker that was asked for, not opened yet."""

    kind: str
    where: str
    """Folder, project or address; empty for the tracker's own default."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        return f"{self.kind}={self.where}" if self.where else self.kind

    def open(self, run: Run) -> Tracker:
        """Open the tracker for a run. Raises TrackerError."""
        opened: Tracker = _opener(self.kind)(run, self.where)
        return opened


_NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""Kinds of trackers, each a module beside this one, and the library it needs."""


def parse_target(text: str) -> Target:
    """``KIND`` or ``KIND=WHERE``; nothing is imported.

    Raises TrackerTargetError for a kind that is not known or whose library is not installed.
    """
    kind, _, where = text.partition("=")
    if kind not in _NEEDS:
        raise TrackerTargetError(
            f"{text}: no tracker {kind!r} is known; known: {', '.join(_NEEDS)}"
        )
    if kind == "tensorboard" and not where:
        raise TrackerTargetError(f"{text}: say where events go to: tensorboard=DIR")
    if importlib.util.find_spec(_NEEDS[kind]) is None:
        raise TrackerTargetError(f"{text}: {kind} is not installed: pip install 'mmhealth[{kind}]'")
    return Target(kind, where)


def _opener(kind: str) -> Callable[[Run, str], Any]:
    module = f"mmhealth.integrations.trackers.to_{kind}"
    try:
        opener: Callable[[Run, str], Any] = importlib.import_module(module).open_tracker
    except ImportError as error:
        raise TrackerError(f"{kind} is installed and cannot be imported: {error}") from error
    return opener
