"""Exact per-trajectory gradient norms of the loss that is really optimised (needs torch)."""

from mmhealth.gradnorm.meter import GradNorms, StepNorms

__all__ = ["GradNorms", "StepNorms"]
