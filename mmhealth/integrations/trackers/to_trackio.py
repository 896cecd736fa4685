"""Health metrics to trackio."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trackio

from mmhealth.errors import TrackerError
from mmhealth.integrations.trackers.steps import HealthStep
from mmhealth.runlog import Run

_CLIENTS = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
"""Of what trackio rests on, one part or another speaks HTTP through these."""
_UNREACHED: tuple[type[Exception], ...] = tuple(
    importlib.import_module(name).HTTPError for name in _CLIENTS
)


class Trackio:
    """A trackio run of its own; what trackio reads from its environment counts.

    It is called after the run and its id, and the next export resumes it. trackio writes twice a
    second: a kill can lose what was handed over in the last half second.
    """

    def __init__(self, run: Run, project: str) -> None:
        with _faults_told():
            self._run: Any = trackio.init(
                project=project or "mmhealth",
                name=f"{run.name}-{run.id[:8]}",
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def arrived(self, _doubtful: Sequence[HealthStep]) -> None:
        """It has no reader of what was logged that all its kinds of storage share."""
        return

    def send(self, step: HealthStep) -> None:
        """Log the values of one step; trackio itself warns of what it cannot store."""
        with _faults_told():
            self._run.log(dict(step.values), step=step.key.step)

    def flush(self) -> None:
        """Nothing to do: trackio's own thread writes."""

    def close(self) -> None:
        """End the trackio run, which writes what is waiting."""
        with _faults_told():
            self._run.finish()


@contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except _UNREACHED as error:
        raise TrackerError(f"trackio: its server or Space cannot be reached: {error}") from error
    except (ValueError, OSError) as error:
        raise TrackerError(f"trackio: {error}") from error


def open_tracker(run: Run, where: str) -> Trackio:
    """A trackio run in the project ``where``. Raises TrackerError."""
    return Trackio(run, where)
