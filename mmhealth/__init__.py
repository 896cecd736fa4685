"""The instrument panel for RL post-training.

Record what a trainer does, see whether its policy-gradient estimator is alive, and be told before
the reward shows it.
"""

from mmhealth._version import __version__
from mmhealth.runlog import Recorder, Run, new_attempt, open_run

__all__ = ["Recorder", "Run", "__version__", "new_attempt", "open_run"]
