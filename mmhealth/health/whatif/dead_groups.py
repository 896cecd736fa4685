"""What if groups that are all solved or all failed were left out, or sampled anew?

With group baselines their advantages are 0 and they contribute nothing, so leaving them out adds no
effective trajectory: the ESS stays what it was as a fraction of the batch as logged. Sampling until
the batch is full of mixed groups (DAPO's dynamic sampling, arXiv 2503.14476) does add some, at the
price of the rollouts that are thrown away.
"""

import numpy as np

from mmhealth.health.rows import Missing, Rows
from mmhealth.health.whatif.option import Change, Option
from mmhealth.health.whatif.terms import StepTerms

_NOT_CENTRED = (
    "advantages are not centred within groups: the groups that stay may have had other advantages"
)


def dead_groups() -> list[Option]:
    """Leave them out, or fill the batch up with others."""
    return [
        Option(
            "drop_dead_groups",
            "without dead groups",
            "the rows that stay keep their advantages, as each group is its own baseline",
            "none where their advantages are 0; then nothing is gained either",
            _dropped,
        ),
        Option(
            "refill_dead_groups",
            "dead groups sampled anew",
            "the groups sampled instead are like the mixed ones of the step",
            "rollouts thrown away: as many times the batch as one over the share of mixed groups",
            _refilled,
        ),
    ]


def _dropped(terms: StepTerms) -> Change:
    rows = _mixed(terms)
    if terms.is_centred():
        return Change(rows)
    return Change(rows, "estimate", notes=(_NOT_CENTRED,))


def _refilled(terms: StepTerms) -> Change:
    rows = _mixed(terms)
    return Change(rows, "estimate", of=len(rows))


def _mixed(terms: StepTerms) -> Rows:
    """The rows of groups that were sampled mixed; what was injected into a group goes with it."""
    group = terms.groups()
    dead = np.unique(group[terms.outcomes() != 0])
    mixed = ~np.isin(group, dead)
    if not mixed.any():
        raise Missing("no group is mixed: nothing would be left")
    return terms.kept(mixed)
