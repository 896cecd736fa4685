"""The instrument panel for RL post-training.

Record what a trainer does, see whether its policy-gradient estimator is alive, and be told before
the reward shows it.
"""

from typing import TYPE_CHECKING, Any

from mmhealth._version import __version__

if TYPE_CHECKING:
    from mmhealth.notebook import open_run
    from mmhealth.runlog import Recorder, RecorderHandle, Run, new_attempt

__all__ = ["Recorder", "RecorderHandle", "Run", "__version__", "new_attempt", "open_run"]


def __getattr__(name: str) -> Any:
    """Import what needs Arrow and Polars when it is first asked for."""
    if name == "open_run":
        from mmhealth import notebook

        return notebook.open_run
    if name in __all__:
        from mmhealth import runlog

        return getattr(runlog, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
