"""Every option that is looked at, in the order of the article's interventions."""

from mmhealth.health.whatif.baselines import baselines
from mmhealth.health.whatif.dead_groups import dead_groups
from mmhealth.health.whatif.near_misses import injections
from mmhealth.health.whatif.normalisation import normalisations
from mmhealth.health.whatif.option import Option
from mmhealth.health.whatif.staleness import staleness
from mmhealth.health.whatif.truncation import truncations


def standard_options() -> list[Option]:
    """New options, which have seen no step yet."""
    return [
        *normalisations(),
        *baselines(),
        *truncations(),
        *staleness(),
        *dead_groups(),
        *injections(),
    ]
