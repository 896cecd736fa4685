"""Health metrics to TensorBoard's event files."""

from collections.abc import Collection, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mmhealth.errors import TrackerError
from mmhealth.health.timeline import LivedStep
from mmhealth.integrations.trackers.steps import HealthStep
from mmhealth.runlog import Run


class TensorBoard:
    """Writes event files into a folder; the x-axis is the step, the time that of its commit.

    Wherever steps begin anew (here, or after a restart of the run) a START event has TensorBoard
    forget what older files say of this and later steps.
    """

    def __init__(self, folder: Path) -> None:
        self._last: int | None = None
        try:
            self._writer = EventFileWriter(str(folder))
        except OSError as error:
            raise TrackerError(f"tensorboard: {folder} cannot be written: {error}") from None

    def arrived(self, _doubtful: Sequence[HealthStep]) -> Collection[LivedStep]:
        """None: what had arrived is forgotten, and sent again."""
        return ()

    def send(self, step: HealthStep) -> None:
        """Write the values of one step."""
        number = step.key.step
        if self._last is None or number <= self._last:
            start = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=step.time, step=number, session_log=start))
        values = [Summary.Value(tag=n, simple_value=value) for n, value in step.values.items()]
        self._add(Event(wall_time=step.time, step=number, summary=Summary(value=values)))
        self._last = number

    def flush(self) -> None:
        """Write to disk what is waiting."""
        try:
            self._writer.flush()
        except OSError as error:
            raise TrackerError(f"tensorboard: events cannot be written: {error}") from None

    def close(self) -> None:
        """Close the file."""
        try:
            self._writer.close()
        except OSError as error:
            raise TrackerError(f"tensorboard: events cannot be written: {error}") from None

    def _add(self, event: Event) -> None:
        try:
            self._writer.add_event(event)
        except OSError as error:
            raise TrackerError(f"tensorboard: events cannot be written: {error}") from None


def open_tracker(_run: Run, where: str) -> TensorBoard:
    """Event files in the folder ``where``. Raises TrackerError."""
    return TensorBoard(Path(where))
