"""Every exception mmhealth raises on purpose.

::

    MmhealthError
    ├── RunError                 a run directory cannot be read as asked
    │   ├── RunNotFoundError     there is no run at this path
    │   ├── SchemaVersionError   written by a newer mmhealth
    │   ├── RunUnavailableError  its files are there and cannot be had just now
    │   │   └── ObjectStoreError     an object store does not answer
    │   │       └── ObjectStoreRefusedError   it refuses, and would again
    │   └── RetentionError       a run's old steps cannot be reduced as asked
    │       └── RetentionBusyError   another process rewrites the run's segments just now
    ├── RecordError              what was handed to the recorder cannot be stored (strict mode)
    ├── PolicyError              a policy file is wrong; names file and line
    ├── CalibrationError         the runs given cannot support what was asked of a calibration
    ├── ImportDataError          a foreign file cannot be imported; names file and column
    │   └── ImportBusyError      another process imports into the run directory
    ├── EstimatorInputError      arrays handed to an estimator do not fit (also a ValueError)
    ├── GradNormError            per-trajectory gradient norms cannot be measured as asked
    │   └── UncoveredParameterError   a trainable parameter has no exact rule; names it
    ├── GuardError               the guard does not start a job: the run directory is in use
    ├── NotifyError              the configuration of notifications is wrong; names file and target
    ├── TrackerError             health metrics cannot be sent to a tracker
    │   └── TrackerTargetError   the tracker asked for is not known or not installed
    ├── EngineError              the workers that were to do the work are gone, or cannot be had
    │   └── LostTaskError        the workers died of one task; holds it
    ├── SelectionError           runs are to be filtered or sorted by what they do not have
    ├── AttachError              a trainer is not one that can be attached to; says how it differs
    └── PortInUseError           the port to serve on is taken
"""


class MmhealthError(Exception):
    """Base of all errors below: catch it to catch everything that mmhealth raises on purpose."""


class RunError(MmhealthError):
    """A run directory cannot be read as asked."""


class RunNotFoundError(RunError):
    """There is no run directory at the path."""


class SchemaVersionError(RunError):
    """The run was written with a newer schema version than this mmhealth can read."""


class RunUnavailableError(RunError):
    """Files of a run are there and cannot be had just now; the message says why."""


class ObjectStoreError(RunUnavailableError):
    """An object store cannot be reached; the message names the URL and the way out."""


class ObjectStoreRefusedError(ObjectStoreError):
    """An object store refuses what is asked, and would again: there is no use in trying."""


class RetentionError(RunError):
    """Old steps of a run cannot be reduced as asked; the message says the way out."""


class RetentionBusyError(RetentionError):
    """Another process compacts or reduces the run just now: try again."""


class RecordError(MmhealthError):
    """What was handed to the recorder cannot be stored; raised only with ``strict=True``."""


class PolicyError(MmhealthError):
    """A policy is not valid; the message names the file, the line and the way out."""


class CalibrationError(MmhealthError):
    """The runs given cannot support what was asked; the message says how much is missing."""


class ImportDataError(MmhealthError):
    """A foreign file cannot be imported; the message names the file and the column."""


class ImportBusyError(ImportDataError):
    """Another process is importing into the run directory."""


class EstimatorInputError(MmhealthError, ValueError):
    """Arrays handed to an estimator have shapes or values that do not fit together."""


class GradNormError(MmhealthError):
    """Per-trajectory gradient norms cannot be measured as asked."""


class UncoveredParameterError(GradNormError):
    """A trainable parameter belongs to a module without an exact rule; the message names it."""


class GuardError(MmhealthError):
    """The guard does not start a job, because somebody else is at work on the run directory."""


class NotifyError(MmhealthError):
    """The configuration of notifications is not valid; the message names file and target."""


class TrackerError(MmhealthError):
    """Health metrics cannot be sent to a tracker; the message names it."""


class TrackerTargetError(TrackerError):
    """The tracker asked for is not known or not installed; the message says what to do."""


class EngineError(MmhealthError):
    """The workers that were to do the work are gone, or cannot be had; the message says why."""


class LostTaskError(EngineError):
    """All workers that were given a task died of it."""

    def __init__(self, message: str, task: object = None) -> None:
        super().__init__(message)
        self.task = task
        """Others may be mapped again, without it."""


class SelectionError(MmhealthError):
    """A filter or a sort key makes no sense for these runs; the message names what there is."""


class AttachError(MmhealthError):
    """A trainer is not one whose methods are known; the message says how it differs."""


class PortInUseError(MmhealthError):
    """The port asked for is taken by another process."""
