"""The article's claims, and what they are held against."""

from mmhealth.reference.experiments.claims import (
    constraints,
    entropy,
    ess,
    horizons,
    orchestrator,
    unified,
    variance,
)
from mmhealth.reference.experiments.claims.base import Claim, Criterion, Verdict, judge

__all__ = ["CLAIMS", "Claim", "Criterion", "Verdict", "judge"]

CLAIMS: tuple[Claim, ...] = (
    *entropy.CLAIMS,
    *ess.CLAIMS,
    *variance.CLAIMS,
    *constraints.CLAIMS,
    *horizons.CLAIMS,
    *orchestrator.CLAIMS,
    *unified.CLAIMS,
)
"""All claims, in the order of the figures."""
