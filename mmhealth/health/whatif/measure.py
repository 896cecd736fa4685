"""What is compared: ESS on three bases, Gini and top share of the rows of an update."""

import numpy as np

from mmhealth import estimators
from mmhealth.health.bases import ON_POLICY, fraction, known, log_basis
from mmhealth.health.rows import Array, Collector, Measured, Missing, Rows
from mmhealth.health.whatif.terms import StepTerms

METRICS = ("ess_contribution", "ess_signal", "ess_weight", "gini_grad_norm", "top5_share")
"""The timeline's ``ess_*_update``, and Gini and top share of the same rows: those that entered the
update."""


def measure(terms: StepTerms, rows: Rows, of: int) -> Collector:
    """The `METRICS` of rows; ESS as a fraction of ``of`` rows, where those are more."""
    level, out = terms.level, Collector()

    def norms() -> Array:
        values = rows.numbers("grad_norm")
        return known(values, ~np.isfinite(values))

    def signal() -> Measured:
        if terms.other_basis is not None:
            raise Missing(terms.other_basis)
        return fraction(log_basis("signal", level, rows), of)

    def weight() -> Measured:
        if level.loss_ratio == "token":
            return level.token_ess(rows)
        log_weight = level.log_weights(rows)
        if not np.any(log_weight):
            raise Missing(ON_POLICY)
        return fraction(log_weight, of)

    out.put("ess_contribution", lambda: fraction(log_basis("contribution", level, rows), of))
    out.put("ess_signal", signal)
    out.put("ess_weight", weight)
    out.put("gini_grad_norm", lambda: estimators.gini(norms()))
    out.put("top5_share", lambda: estimators.top_share(norms(), 0.05))
    return out
