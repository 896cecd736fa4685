"""Exact per-trajectory gradient norms of the loss that is really optimised (needs torch).

`GradNorms` measures whole models from the one backward pass that training does anyway.
"""

from mmhealth.gradnorm.layout import Layout, batch_rows, packed, segment_ids
from mmhealth.gradnorm.meter import GradNorms
from mmhealth.gradnorm.replicates import Estimate
from mmhealth.gradnorm.sampled import Sampled
from mmhealth.gradnorm.scales import own_token_mean, row_mean, token_mean
from mmhealth.gradnorm.sketch import Sketch
from mmhealth.gradnorm.step import StepNorms

__all__ = [
    "Estimate",
    "GradNorms",
    "Layout",
    "Sampled",
    "Sketch",
    "StepNorms",
    "batch_rows",
    "own_token_mean",
    "packed",
    "row_mean",
    "segment_ids",
    "token_mean",
]
