"""A trajectory's columns from the raw log probabilities of its tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmhealth.estimators import EssSums
from mmhealth.integrations.dumps.fields import FloatArray
from mmhealth.integrations.dumps.problems import Problems

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(slots=True)
class Row:
    """One trajectory as it was used: columns of trajectories and updates together."""

    values: dict[str, Any]
    log_ratios: FloatArray | None = None
    """Raw log-ratios of the tokens that enter the loss, nats (tokens,)."""
    after_tool: BoolArray | None = None
    """Which of these tokens follow a tool's or the environment's answer (tokens,)."""


def weigh(log_ratios: FloatArray) -> dict[str, float]:
    """Columns of updates from raw token log-ratios (tokens,), nats: nothing clipped or truncated.

    A value that is not finite stays: the log weight is then NaN or infinite, and is counted as such
    by every reader. No token gives no column.
    """
    if not log_ratios.size:
        return {}
    with np.errstate(invalid="ignore"):
        columns = {"log_weight": float(log_ratios.sum())}
    if np.isfinite(log_ratios).all():
        sums = EssSums.from_log_weights(log_ratios)
        sizes = np.abs(log_ratios)
        return columns | {
            "token_logsum_w": sums.log_sum,
            "token_logsum_w2": sums.log_sum_sq,
            "log_ratio_max": float(sizes.max()),
            "log_ratio_p95": float(np.percentile(sizes, 95)),
        }
    return columns | dict.fromkeys(("token_logsum_w", "token_logsum_w2"), float("nan"))


def advantage_of(advantages: FloatArray, problems: Problems) -> float | None:
    """The advantage of a trajectory from those of its tokens in the loss (tokens,)."""
    if not advantages.size:
        return None
    if np.ptp(advantages) > 1e-6 * max(1.0, float(np.abs(advantages).max())):
        problems.note("advantages differ from token to token: their mean is taken")
        return float(advantages.mean())
    return float(advantages[0])


def turns_of(mask: BoolArray) -> int:
    """Stretches of the policy's own tokens in a sequence (tokens,)."""
    return int(mask[:1].sum() + (mask[1:] & ~mask[:-1]).sum())


def follows_tool(mask: BoolArray) -> BoolArray:
    """Which of the policy's own tokens come after its first stretch, (tokens in the loss,).

    What stands between two stretches is an answer of a tool or of the environment.
    """
    starts = np.flatnonzero(mask[1:] & ~mask[:-1]) + 1
    starts = starts if not mask[:1].any() else np.concatenate([[0], starts])
    if len(starts) < 2:
        return np.zeros(int(mask.sum()), bool)
    return np.asarray(np.flatnonzero(mask) >= starts[1], np.bool_)
