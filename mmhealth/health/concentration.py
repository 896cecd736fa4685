"""How unequal the rows of an update are: Gini and top share of norms, tail of weights."""

import numpy as np

from mmhealth import estimators
from mmhealth.health.bases import ON_POLICY, Level, known, unsolved
from mmhealth.health.rows import Array, Collector, Measured, Missing, Rows, once


def concentration(out: Collector, level: Level, rows: Rows, outcome: Array | None) -> None:
    """Put Gini, top share and weight tail over the rows that entered an update.

    ``outcome`` of each row's group as in `mmhealth.health.outcomes.Outcomes`.
    """

    @once
    def norms() -> Array:
        values = rows.numbers("grad_norm")
        return np.sort(known(values, ~np.isfinite(values)))

    @once
    def log_weights() -> Array:
        values = level.log_weights(rows)
        if not np.any(values):
            raise Missing(ON_POLICY)
        return np.sort(known(values, ~(values < np.inf)))

    def unsolved_gini() -> Measured:
        left = unsolved(rows.numbers("grad_norm"), outcome)
        left = known(left, ~np.isfinite(left))
        return Measured(estimators.gini(left), left.size)

    def khat() -> Measured:
        values = log_weights()
        return Measured(estimators.pareto_khat(values), values.size)

    out.put("gini_grad_norm", lambda: Measured(estimators.gini(norms()), norms().size))
    out.put("gini_grad_norm_unsolved", unsolved_gini)
    out.put("top5_share", lambda: Measured(estimators.top_share(norms(), 0.05), norms().size))
    out.put("weight_khat", khat)
    out.put("weight_khat_limit", lambda: estimators.khat_threshold(len(log_weights())))
    out.put("max_weight_share", lambda: estimators.max_weight_share(log_weights()))
