"""Exact per-trajectory gradient norms of the loss that is really optimised (needs torch).

`OwnedNorms` measures whole models from the one backward pass that training does anyway.
`GradNorms` measures models of `torch.nn.Linear` layers with hooks and leaves every bit of the
gradients as it is; the reference trainer uses it.
"""

from mmhealth.gradnorm.layout import Layout, batch_rows, packed, segment_ids
from mmhealth.gradnorm.meter import GradNorms, StepNorms
from mmhealth.gradnorm.owned import OwnedNorms
from mmhealth.gradnorm.owned_step import OwnedStep
from mmhealth.gradnorm.scales import own_token_mean, row_mean, token_mean

__all__ = [
    "GradNorms",
    "Layout",
    "OwnedNorms",
    "OwnedStep",
    "StepNorms",
    "batch_rows",
    "own_token_mean",
    "packed",
    "row_mean",
    "segment_ids",
    "token_mean",
]
