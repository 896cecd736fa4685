"""From token log probabilities to a trajectory's log weights, entropy and KL divergence.

Sums are over the tokens that the loss counts, in float64. The whole log ratio of a token is its
update part, log pi_theta - log pi_old, plus its mismatch part, log pi_old - log pi_sampler, where
the sampler's log probabilities are known; both before any clip or truncation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

ROUNDING = 1e-4
"""Nats a token: while the policy has not changed, smaller ratios are rounding and count as 0."""

UNSCORED = (
    "mismatch: the sampler gives no log probability for some tokens; they count as a ratio of 1, "
    "as in the loss, and a trajectory of them alone has no mismatch"
)


@dataclass(slots=True)
class Tokens:
    """A micro-batch as the loss saw it; (rows, tokens) unless it says otherwise, on any device."""

    logps: Tensor
    entropies: Tensor | None
    mask: Tensor
    """1 where the loss counts the token."""
    tool: Tensor | None
    """0 where a tool wrote the token."""
    old: Tensor | None
    """Under the policy that sampled; None where the loss takes the present one."""
    sampler: Tensor | None
    """As the sampler gave it; NaN where it could not: there the loss multiplies no ratio."""
    reference: Tensor | None
    changed: bool
    """Whether the policy has been updated since it sampled."""


@dataclass(slots=True)
class Found:
    """Numbers of a micro-batch, on the CPU."""

    updates: dict[str, Array]
    """(rows,) columns of how its trajectories were used."""
    trajectories: dict[str, Array]
    """(rows,) columns that describe them."""
    ratios: Array
    """Log ratios of the tokens that count."""
    after_tool: Array | None
    """Which of those come after a tool result."""
    unscored: int = 0
    """Tokens that count, and for which the sampler gave no log probability."""


def measure(tokens: Tokens) -> Found:
    """All numbers of a micro-batch; what is not finite in it is not finite in them."""
    with np.errstate(invalid="ignore", over="ignore"):
        return _measure(tokens)


def _measure(tokens: Tokens) -> Found:
    mask = host(tokens.mask) > 0
    count = mask.sum(1)
    logps = host(tokens.logps)
    old = logps if tokens.old is None else host(tokens.old)
    update, mismatch = logps - old, None
    lacks = np.zeros_like(mask)
    raw = update
    if not tokens.changed and np.all(np.abs(update[mask]) <= ROUNDING):
        update = np.zeros_like(update)
    if tokens.sampler is not None:
        sampler = host(tokens.sampler)
        lacks = np.isnan(sampler) & mask
        mismatch = np.where(np.isnan(sampler), 0.0, old - sampler)
        raw = raw + mismatch
    whole = update if mismatch is None else update + mismatch
    updates = {
        "log_weight": _sum(whole, mask),
        "token_logsum_w": _log_sum_exp(whole, mask),
        "token_logsum_w2": _log_sum_exp(2 * whole, mask),
        "log_ratio_max": np.where(mask, np.abs(raw), 0.0).max(1, initial=0.0),
    }
    if mismatch is not None:
        unknown = (count > 0) & (lacks.sum(1) == count)
        updates["log_weight_mismatch"] = np.ma.masked_array(_sum(mismatch, mask), unknown)
    described = {"token_count": count}
    if tokens.entropies is not None:
        described["entropy"] = _mean(host(tokens.entropies), mask)
    if tokens.reference is not None:
        gap = host(tokens.reference) - logps
        described["kl_ref"] = _mean(np.expm1(gap) - gap, mask)
    after = None
    if tokens.tool is not None:
        after = (np.cumsum(host(tokens.tool) == 0, axis=1) > 0)[mask]
    return Found(updates, described, raw[mask].astype(np.float32), after, int(lacks.sum()))


def host(tensor: Tensor) -> Array:
    """As float64, on the CPU."""
    return tensor.detach().to("cpu").double().numpy()


def _sum(values: Array, mask: Array) -> Array:
    return np.asarray(np.where(mask, values, 0.0).sum(1))


def _mean(values: Array, mask: Array) -> Array:
    """NaN of a row without tokens."""
    return np.asarray(_sum(values, mask) / mask.sum(1))


def _log_sum_exp(values: Array, mask: Array) -> Array:
    values = np.where(mask, values, -np.inf)
    top = values.max(1, initial=-np.inf, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(values - shift).sum(1)) + shift[:, 0])
