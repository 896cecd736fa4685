"""What if advantages were divided by the sigma of their source, by sqrt(length), or by both?

The arithmetic is `mmhealth.interventions.VarianceCorrection` itself, switched on at the first step
that is looked at: sigma begins cold there and learns from the sampled rows of each step in turn.
"""

import numpy as np

from mmhealth.health.rows import Array, Missing, Rows
from mmhealth.health.whatif.option import LINEAR, Change, Option, linear
from mmhealth.health.whatif.terms import StepTerms
from mmhealth.interventions import VarianceConfig, VarianceCorrection

_ON = "sigma begins with the first step looked at and learns from the logged advantages"


def normalisations() -> list[Option]:
    """The correction as `VarianceCorrection` does it, and each half of it alone."""
    return [
        Option(
            "variance_correction",
            "variance correction",
            f"advantages over sigma of the source and sqrt(length); {LINEAR}; {_ON}",
            "noisy sources and long trajectories count for less in the objective",
            _Correction(VarianceConfig()),
        ),
        Option(
            "source_sigma",
            "sigma of the source alone",
            f"advantages over sigma of the source; {LINEAR}; {_ON}",
            "noisy sources count for less in the objective",
            _Correction(VarianceConfig(by_length=False)),
        ),
        Option(
            "sqrt_length",
            "sqrt(length) alone",
            f"advantages over sqrt(length); {LINEAR}",
            "long trajectories count for less in the objective",
            _Correction(VarianceConfig(by_source=False)),
        ),
    ]


class _Correction:
    """A correction that meets the steps of a run one after another."""

    def __init__(self, config: VarianceConfig) -> None:
        self._config = config
        self._correction = VarianceCorrection(config)

    def __call__(self, terms: StepTerms) -> Change:
        """Divide the advantages of a step, after sigma has learnt from its sampled rows."""
        sampled = terms.sampled_updates
        advantage = sampled.numbers("advantage")
        source, length = self._columns(terms, sampled)
        mine = self._columns(terms, terms.rows)
        usable = np.isfinite(advantage)
        self._correction.normalise(advantage[usable], source[usable], length[usable])
        if not self._correction.pooled:
            raise Missing("every advantage is 0: sigma is not known")
        ones, nothing = np.ones(len(terms.rows)), np.zeros(len(terms.rows), np.bool_)
        factor = self._correction.normalise(ones, *mine, observed=nothing)
        return linear(terms, terms.scaled(factor))

    def _columns(self, terms: StepTerms, rows: Rows) -> tuple[np.ndarray[tuple[int]], Array]:
        """Source and length of each row, as far as they are needed."""
        source, length = np.full(len(rows), "all"), np.ones(len(rows))
        if self._config.by_source:
            source = np.array([str(one) for one in terms.of_trajectory("source", rows).to_list()])
        if self._config.by_length:
            length = terms.of_trajectory("length", rows).to_numpy().astype(np.float64)
            if empty := int((length <= 0).sum()):
                raise Missing(f"length is not above 0 in {empty} of {len(rows)} {rows.what} rows")
        return source, length
