"""The run directory: the only floor that touches a run's files."""

from mmhealth.runlog.alive import recording_attempts
from mmhealth.runlog.attempt import new_attempt
from mmhealth.runlog.compaction import Compaction, compact
from mmhealth.runlog.handle import RecorderHandle
from mmhealth.runlog.recorder import Recorder
from mmhealth.runlog.run import Run, Tail, open_run
from mmhealth.runlog.seal import seal_orphans
from mmhealth.runlog.status import RunStatus
from mmhealth.runlog.step import StepRecord
from mmhealth.runlog.stepdata import StepData
from mmhealth.runlog.upload import Uploaded, upload_run

__all__ = [
    "Compaction",
    "Recorder",
    "RecorderHandle",
    "Run",
    "RunStatus",
    "StepData",
    "StepRecord",
    "Tail",
    "Uploaded",
    "compact",
    "new_attempt",
    "open_run",
    "recording_attempts",
    "seal_orphans",
    "upload_run",
]
