"""What if importance weights were truncated: ``min(w, c)`` in place of ``w``?

Truncated importance sampling (Ionides 2008, *Truncated Importance Sampling*, JCGS 17; as a
correction of stale or mismatched rollouts, IMPALA's rho-bar).
"""

import math
from functools import partial

import numpy as np

from mmhealth.health.rows import Array, Missing
from mmhealth.health.whatif.option import LINEAR, Change, Option, linear
from mmhealth.health.whatif.terms import StepTerms

CAPS = (1.0, 2.0, 5.0)
_ON_POLICY = 1e-3
"""Nats that a log weight of 0 may be off as a sum over a long trajectory in float32."""


def truncations(caps: tuple[float, ...] = CAPS) -> list[Option]:
    """One option a cap."""
    return [
        Option(
            f"truncate_{cap:g}",
            f"weights truncated at {cap:g}",
            f"{LINEAR}; the truncated weight is a factor, not a clip that stops the gradient",
            "bias: trajectories that the policy has come to prefer count for too little",
            partial(_truncated, cap=cap),
        )
        for cap in caps
    ]


def _truncated(terms: StepTerms, cap: float) -> Change:
    log_weight = loss_weights(terms)
    rows = terms.reweighted(np.minimum(log_weight, math.log(cap)))
    if not is_complete(terms):
        note = "weight_used is not logged: the loss is taken to have multiplied exp(log_weight)"
        return linear(terms, rows, "estimate", note)
    return linear(terms, rows)


def loss_weights(terms: StepTerms) -> Array:
    """(rows,) log weights that the loss multiplied. Raises `Missing` where they are all 0."""
    frame = terms.rows.frame
    if "weight_at" in frame.columns and (frame["weight_at"] == "after").any():
        raise Missing("log_weight was measured after the update, it is not what the loss used")
    log_weight = terms.level.log_weights(terms.rows)
    if not (np.abs(log_weight) > _ON_POLICY).any():
        raise Missing("on-policy: no weight differs from 1 by more than rounding")
    return log_weight


def is_complete(terms: StepTerms) -> bool:
    """Whether the log says of every row which weight the loss multiplied."""
    frame = terms.rows.frame
    return "weight_used" in frame.columns and not frame["weight_used"].null_count()
