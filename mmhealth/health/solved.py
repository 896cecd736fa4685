"""When a low ESS or entropy means that the task is done, and when that it is not."""

from collections.abc import Mapping
from typing import Any

SOLVED_SUCCESS_RATE = 0.9
"""Share of successes in a step from which on a low ESS is read as solved, whatever the groups say.

With binary outcomes the signal ESS is about 4p(1-p): below 0.36 from a success rate p of 0.9 on,
however healthy the estimator is.
"""


def is_solved(row: Mapping[str, Any]) -> bool:
    """Whether a step (a row of the timeline) has little left to learn.

    All groups are solved, or the success rate is at least `SOLVED_SUCCESS_RATE`.
    """
    if row.get("solved_group_share") == 1.0:
        return True
    return (row.get("success_rate") or 0.0) >= SOLVED_SUCCESS_RATE


def is_failing(row: Mapping[str, Any]) -> bool:
    """Whether in more than half of the groups of a step all trajectories fail."""
    return (row.get("failed_group_share") or 0.0) > 0.5
