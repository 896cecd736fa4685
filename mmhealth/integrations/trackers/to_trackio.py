"""Health metrics to trackio."""

from collections.abc import Sequence
from typing import Any

import trackio

from mmhealth.errors import TrackerError
from mmhealth.integrations.trackers.steps import HealthStep
from mmhealth.runlog import Run


class Trackio:
    """A trackio run of its own; what trackio reads from its environment counts.

    It is called after the run and its id, and the next export resumes it. trackio writes twice a
    second: a kill can lose what was handed over in the last half second.
    """

    def __init__(self, run: Run, project: str) -> None:
        try:
            self._run: Any = trackio.init(
                project=project or "mmhealth",
                name=f"{run.name}-{run.id[:8]}",
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        except (ValueError, OSError) as error:
            raise TrackerError(f"trackio: {error}") from error

    def arrived(self, _doubtful: Sequence[HealthStep]) -> None:
        """It has no reader of what was logged that all its kinds of storage share."""
        return

    def send(self, step: HealthStep) -> None:
        """Log the values of one step; trackio itself warns of what it cannot store."""
        self._run.log(dict(step.values), step=step.key.step)

    def flush(self) -> None:
        """Nothing to do: trackio's own thread writes."""

    def close(self) -> None:
        """End the trackio run, which writes what is waiting."""
        self._run.finish()


def open_tracker(run: Run, where: str) -> Trackio:
    """A trackio run in the project ``where``. Raises TrackerError."""
    return Trackio(run, where)
