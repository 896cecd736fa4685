"""The run directory: the only floor that touches a run's files."""

from mmhealth.runlog.alive import is_closed, recording_attempts
from mmhealth.runlog.attempt import new_attempt
from mmhealth.runlog.compaction import Compaction, compact
from mmhealth.runlog.recorder import Recorder
from mmhealth.runlog.run import Run, Tail, open_run
from mmhealth.runlog.seal import seal_orphans
from mmhealth.runlog.status import RunStatus
from mmhealth.runlog.step import StepRecord
from mmhealth.runlog.stepdata import StepData

__all__ = [
    "Compaction",
    "Recorder",
    "Run",
    "RunStatus",
    "StepData",
    "StepRecord",
    "Tail",
    "compact",
    "is_closed",
    "new_attempt",
    "open_run",
    "recording_attempts",
    "seal_orphans",
]
