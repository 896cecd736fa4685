"""The constant baseline of each group that makes the policy gradient's variance smallest.

``b = sum g_i^2 r_i / sum g_i^2`` with g_i the norm of the gradient of log pi of trajectory i
(Weaver & Tao 2001, *The optimal reward baseline for gradient-based reinforcement learning*;
Greensmith, Bartlett & Baxter 2004, JMLR 5), estimated within the group; with importance weights
w_i, ``g_i^2`` becomes ``w_i^2 g_i^2`` (VCPO, arXiv 2602.17616). With equal norms it is the mean.

What to put in: `mmhealth.gradnorm` measures the norm of a trajectory's *term in the loss*. For
the term ``-w A log pi`` under ``loss = terms.mean()`` over B rows that is ``w |A| g / B``, which
tells g only where the advantage is not 0. So measure it in a pass whose terms are ``-log pi``, with
``loss = terms.sum()``. That pass is the price: one more backward pass a step.

Bias: a row's own reward is in its baseline, which biases the gradient by a factor of order 1 /
group size; ``leave_one_out`` takes it out, with a noisier baseline. Cost here: one pass.
"""

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, labels, vector


def minimum_variance_baseline(
    reward: npt.ArrayLike,
    score_norm: npt.ArrayLike,
    group: npt.ArrayLike,
    *,
    log_weight: npt.ArrayLike | None = None,
    leave_one_out: bool = False,
) -> FloatArray:
    """Baseline of each row (rows,), to be subtracted from its reward.

    Args:
        reward: (rows,).
        score_norm: (rows,), norms of the gradients of log pi, at least 0.
        group: (rows,) labels.
        log_weight: (rows,) raw log importance weights in nats; none on policy.
        leave_one_out: take each row's baseline from the other rows of its group.

    Where all norms that count are 0 the plain mean is taken. Raises ValueError for NaN, infinite
    values or negative norms, and for a group of one row with ``leave_one_out``.
    """
    rewards = vector(reward, "reward")
    norms = vector(score_norm, "score_norm", len(rewards))
    if (norms < 0).any():
        raise ValueError("score_norm: negative values")
    logs = np.zeros_like(norms)
    if log_weight is not None:
        logs = vector(log_weight, "log_weight", len(rewards))
    names, index = labels(group, "group", len(rewards))
    baseline = np.empty_like(rewards)
    for number, name in enumerate(names):
        rows = np.flatnonzero(index == number)
        if leave_one_out and len(rows) == 1:
            raise ValueError(f"group: {name!r} has one row, leave_one_out needs at least two")
        weights = _squares(norms[rows], logs[rows])
        if leave_one_out:
            baseline[rows] = _mean(_others(weights * rewards[rows]), _others(weights))
            plain = _others(rewards[rows]) / (len(rows) - 1)
            baseline[rows] = np.where(_others(weights) > 0, baseline[rows], plain)
        elif weights.any():
            baseline[rows] = (weights * rewards[rows]).sum() / weights.sum()
        else:
            baseline[rows] = rewards[rows].mean()
    return baseline


def _squares(norms: FloatArray, logs: FloatArray) -> FloatArray:
    """Squares of weight times norm over the largest of them; all 0 where all norms are."""
    with np.errstate(divide="ignore"):
        size = np.log(norms) + logs
    top = size.max()
    if top == -np.inf:
        return np.zeros_like(size)
    squares: FloatArray = np.exp(2 * (size - top))
    return squares


def _mean(total: FloatArray, weight: FloatArray) -> FloatArray:
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)


def _others(values: FloatArray) -> FloatArray:
    """Sum of all values but one's own, without subtracting."""
    before = np.concatenate([[0.0], np.cumsum(values[:-1])])
    after = np.concatenate([np.cumsum(values[:0:-1])[::-1], [0.0]])
    total: FloatArray = before + after
    return total
