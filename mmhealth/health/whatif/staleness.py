"""What if rollouts had been fresher? Log weights grow with the age of the policy that sampled.

To first order in the distance of the two policies a log weight is proportional to it, so rollouts
half as old have log weights half as large. The rows would have been others, which no log tells:
that the weight ESS does not fall holds for the same rows only, and is part of the estimate.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from mmhealth.health.whatif.measure import measure
from mmhealth.health.whatif.option import Change, Option, linear
from mmhealth.health.whatif.terms import StepTerms
from mmhealth.health.whatif.truncation import loss_weights

SHARES = (0.5, 0.0)


def staleness(shares: tuple[float, ...] = SHARES) -> list[Option]:
    """One option a share of the log weights that is left; 0 is on-policy."""
    return [
        Option(
            f"staleness_{share:g}",
            f"rollouts {share:g} times as old" if share else "rollouts on-policy",
            "log weights are proportional to the age of the policy that sampled, and the rows are "
            "those of the log; limits of the weight ESS hold as far as that does",
            "throughput: the sampler waits for the learner more often",
            partial(_fresher, share=share),
        )
        for share in shares
    ]


def _fresher(terms: StepTerms, share: float) -> Change:
    log_weight = loss_weights(terms)
    finite = np.isfinite(log_weight)
    fresher = np.where(finite, share * np.where(finite, log_weight, 0.0), log_weight)
    change = linear(terms, terms.reweighted(fresher), "estimate")
    now = measure(terms, terms.rows, len(terms.rows)).values["ess_weight"]
    return replace(change, bounds={"ess_weight": (now, 1.0)} if share and now is not None else {})
