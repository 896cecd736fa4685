"""Monte-Carlo estimates of the KL divergence from log-ratios.

Schulman (2020), "Approximating KL divergence", http://joschu.net/blog/kl-approx.html. Samples x
come from q, and log_ratio = log p(x) - log q(x), nats: the estimates are of KL(q || p). For the
divergence of the policy from the reference, q is the policy that sampled and p the reference.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import FloatArray, finite
from mmhealth.estimators.mean import mean

KlEstimator = Literal["k1", "k2", "k3"]

_SERIES_BELOW = 1e-2


def kl_terms(log_ratio: ArrayLike, estimator: KlEstimator = "k3") -> FloatArray:
    """One term of the estimate a sample, nats, in the shape of `log_ratio` (see the module).

    With r = p/q: k1 = -log r (unbiased, of either sign), k2 = (log r)^2 / 2 (biased, >= 0),
    k3 = (r - 1) - log r (unbiased, >= 0). A k2 or k3 beyond float64 is inf.
    Raises EstimatorInputError for empty or non-finite input or an unknown estimator.
    """
    log_r = finite(log_ratio, "log_ratio")
    with np.errstate(over="ignore"):
        if estimator == "k1":
            return np.asarray(0.0 - log_r, dtype=np.float64)
        if estimator == "k2":
            return np.asarray(0.5 * log_r * log_r, dtype=np.float64)
        if estimator == "k3":
            series = 0.5 * log_r * log_r * _k3_series(np.clip(log_r, -1.0, 1.0))
            direct = np.expm1(log_r) - log_r
            return np.where(np.abs(log_r) < _SERIES_BELOW, series, direct)
    raise EstimatorInputError(f"estimator: {estimator!r} is none of k1, k2, k3")


def kl_estimate(log_ratio: ArrayLike, estimator: KlEstimator = "k3") -> float:
    """Mean of `kl_terms` over all samples, nats: an estimate of KL(q || p).

    inf where k2 or k3 exceeds float64. Raises EstimatorInputError as `kl_terms` does.
    """
    terms = kl_terms(log_ratio, estimator).ravel()
    if not np.isfinite(terms).all():
        return math.inf
    return mean(terms)


def _k3_series(x: FloatArray) -> FloatArray:
    """2 (exp(x) - 1 - x) / x^2 to full precision for small x."""
    total = np.ones_like(x)
    for divisor in (8.0, 7.0, 6.0, 5.0, 4.0, 3.0):
        total = 1.0 + x / divisor * total
    return total
