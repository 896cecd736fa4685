"""Entropy of categorical distributions, and means over tokens."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import (
    FloatArray,
    as_floats,
    finite_vector,
    non_negative_vector,
    same_length,
)
from mmhealth.estimators.mean import mean, over_largest


def entropy(log_probs: ArrayLike, axis: int = -1) -> FloatArray:
    """Shannon entropy -sum p log p in nats along `axis`; the result has the shape without it.

    Each distribution is normalised first, so logits serve as well, and float32 log probabilities
    that do not quite sum to one; -inf is the probability zero. In [0, log K] for K outcomes.
    Raises EstimatorInputError for NaN or +inf, no outcomes, an axis that does not exist, or a
    distribution whose outcomes all have probability zero.
    """
    logs = as_floats(log_probs, "log_probs")
    if not -logs.ndim <= axis < logs.ndim:
        raise EstimatorInputError(f"axis: {axis} does not fit shape {logs.shape}")
    if logs.size == 0:
        raise EstimatorInputError("log_probs: no values")
    if np.isnan(logs).any() or (logs == np.inf).any():
        raise EstimatorInputError("log_probs: NaN or +inf values; filter and count them first")
    ordered = np.sort(np.moveaxis(logs, axis, -1), axis=-1)
    top = ordered[..., -1:]
    if (top == -np.inf).any():
        raise EstimatorInputError("log_probs: a distribution with probability zero everywhere")
    with np.errstate(over="ignore"):
        shifted = ordered - top
        unnormalised = np.exp(shifted)
        normaliser = unnormalised.sum(axis=-1, keepdims=True)
        log_p = np.minimum(shifted - np.log(normaliser), 0.0)
        surprise = np.where(unnormalised > 0, -log_p, 0.0)
        result = (unnormalised / normaliser * surprise).sum(axis=-1)
    return np.asarray(np.minimum(result, math.log(ordered.shape[-1])), dtype=np.float64)


def token_mean(values: ArrayLike, token_counts: ArrayLike) -> float:
    """Mean over all tokens from per-trajectory means (n,), weighted by their token counts (n,).

    In the unit of `values`. Raises EstimatorInputError for empty or non-finite input, negative
    counts, lengths that differ, or no tokens at all.
    """
    means = finite_vector(values, "values")
    counts = non_negative_vector(token_counts, "token_counts")
    same_length(means, counts, "values and token_counts")
    if not counts.all():
        means, counts = means[counts > 0], counts[counts > 0]
        if not counts.size:
            raise EstimatorInputError("token_counts: no tokens")
    weights = over_largest(counts)
    weighted = mean(weights * means) / mean(weights)
    return min(max(weighted, float(means.min())), float(means.max()))
